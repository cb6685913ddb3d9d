fn main() -> std::io::Result<()> {
    let protos = "../../../protos";
    let mut generated = tonic_prost_build::configure().build_client(false);
    if std::env::var_os("CARGO_FEATURE_LEAN").is_some() {
        generated = generated.bytes(".");
    }
    generated.compile_protos(&[format!("{protos}/envoy/service/ext_proc/v3/external_processor.proto")], &[protos.into()])
}
