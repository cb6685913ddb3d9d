"""Which LoRA adapters sit on which base model: from a file, or from ConfigMaps. Each feeds one `LiveWriter[AdapterMap]`.

    what a user writes ─ settings/adapters.py: form ─▶ file.py or configmaps.py ─ AdapterMap ─▶ Live ─▶ stages

The map itself is `traffic/adapters.py`. A feeder that fails leaves the last map that it knew.
"""
