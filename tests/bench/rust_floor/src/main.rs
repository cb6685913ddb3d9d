//! A router in Rust, as small as it can be and still be one: tonic on one thread. It holds the headers until the body is whole,
//! finds its model with serde_json, answers with that as a header and gives the body back. `make bench` compares us with it.
//! Written as tonic's guide writes a streaming method: a task for each stream, a channel for its answers. The feature `lean` is
//! the leanest form that tonic has.

use std::pin::Pin;

use prost::bytes::BytesMut;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

mod envoy {
    #[rustfmt::skip]
    pub mod config { pub mod core { pub mod v3 { tonic::include_proto!("envoy.config.core.v3"); } } }
    #[rustfmt::skip]
    pub mod r#type { pub mod v3 { tonic::include_proto!("envoy.r#type.v3"); } }
    #[rustfmt::skip]
    pub mod extensions { pub mod filters { pub mod http { pub mod ext_proc { pub mod v3 {
        tonic::include_proto!("envoy.extensions.filters.http.ext_proc.v3");
    } } } } }
    #[rustfmt::skip]
    pub mod service { pub mod ext_proc { pub mod v3 { tonic::include_proto!("envoy.service.ext_proc.v3"); } } }
}
use envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy::service::ext_proc::v3::external_processor_server::{ExternalProcessor, ExternalProcessorServer};
use envoy::service::ext_proc::v3::{body_mutation::Mutation, processing_request::Request as Got, processing_response::Response as Answer, *};

const PIECE: usize = 62_000; // what a message of Envoy's may hold at most

#[derive(serde::Deserialize)]
struct Body {
    model: String,
}

fn headers(model: String) -> Answer {
    let header = HeaderValue { key: "X-Gateway-Model-Name".into(), raw_value: model.into_bytes().into(), ..Default::default() };
    let set_headers = vec![HeaderValueOption { header: Some(header), ..Default::default() }];
    let header_mutation = Some(HeaderMutation { set_headers, ..Default::default() });
    let response = Some(CommonResponse { header_mutation, clear_route_cache: true, ..Default::default() });
    Answer::RequestHeaders(HeadersResponse { response })
}

#[cfg(feature = "lean")]
type Blob = prost::bytes::Bytes;
#[cfg(not(feature = "lean"))]
type Blob = Vec<u8>;

fn piece(body: Blob, end_of_stream: bool) -> BodyResponse {
    let streamed = StreamedBodyResponse { body, end_of_stream, ..Default::default() };
    let body_mutation = Some(BodyMutation { mutation: Some(Mutation::StreamedResponse(streamed)) });
    BodyResponse { response: Some(CommonResponse { body_mutation, ..Default::default() }) }
}

fn answers(whole: &mut BytesMut, message: ProcessingRequest) -> Result<Vec<Answer>, Status> {
    Ok(match message.request {
        Some(Got::RequestBody(got)) => {
            whole.extend_from_slice(&got.body);
            if !got.end_of_stream {
                return Ok(vec![]);
            }
            let mut body = whole.split().freeze();
            let found: Body = serde_json::from_slice(&body).map_err(|e| Status::invalid_argument(e.to_string()))?;
            let mut out = vec![headers(found.model)];
            while body.len() > PIECE {
                out.push(Answer::RequestBody(piece(body.split_to(PIECE).into(), false)));
            }
            out.push(Answer::RequestBody(piece(body.into(), true)));
            out
        }
        Some(Got::ResponseHeaders(_)) => vec![Answer::ResponseHeaders(HeadersResponse::default())],
        Some(Got::ResponseBody(got)) => vec![Answer::ResponseBody(piece(got.body, got.end_of_stream))],
        _ => vec![],
    })
}

fn response(answer: Answer) -> ProcessingResponse {
    ProcessingResponse { response: Some(answer), ..Default::default() }
}

struct Router;

#[tonic::async_trait]
impl ExternalProcessor for Router {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    #[cfg(feature = "lean")]
    async fn process(&self, request: Request<Streaming<ProcessingRequest>>) -> Result<Response<Self::ProcessStream>, Status> {
        let mut messages = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let mut whole = BytesMut::new();
            while let Some(message) = messages.next().await {
                for answer in answers(&mut whole, message?)? {
                    yield response(answer);
                }
            }
        })))
    }

    #[cfg(not(feature = "lean"))]
    async fn process(&self, request: Request<Streaming<ProcessingRequest>>) -> Result<Response<Self::ProcessStream>, Status> {
        let mut messages = request.into_inner();
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut whole = BytesMut::new();
            while let Some(message) = messages.next().await {
                match message.and_then(|message| answers(&mut whole, message)) {
                    Ok(answers) => {
                        for answer in answers {
                            if sender.send(Ok(response(answer))).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(status) => {
                        _ = sender.send(Err(status)).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    eprintln!(r#"{{"msg": "started", "grpc": {}}}"#, listener.local_addr()?.port());
    let incoming = TcpListenerStream::new(listener).map(|connection| connection.inspect(|tcp| _ = tcp.set_nodelay(true)));
    Server::builder().add_service(ExternalProcessorServer::new(Router)).serve_with_incoming(incoming).await?;
    Ok(())
}
