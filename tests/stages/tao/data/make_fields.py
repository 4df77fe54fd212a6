"""Write fields.json: names, numbers and types of the fields of DetectNet_v2's specs.

Run: python tests/stages/tao/data/make_fields.py FOLDER, where FOLDER holds the unpacked sources of
NVIDIA's tao_deploy 6.26.3 (github.com/NVIDIA/tao_deploy, nvidia_tao_deploy/cv/detectnet_v2/proto).
"""

import importlib
import json
import sys
from pathlib import Path

ROOTS = {
    "experiment_pb2": "Experiment",
    "dataset_export_config_pb2": "DatasetExportConfig",
    "inference_pb2": "Inference",
}
PACKAGE = "nvidia_tao_deploy.cv.detectnet_v2.proto"
SCALARS = {1: "double", 2: "float", 5: "int32", 8: "bool", 9: "string", 13: "uint32"}


def main(folder: str) -> None:
    sys.path.insert(0, folder)
    table: dict[str, dict] = {}
    for module, root in ROOTS.items():
        message = getattr(importlib.import_module(f"{PACKAGE}.{module}"), root)
        add(message.DESCRIPTOR, table)
    text = json.dumps(table, sort_keys=True, separators=(", ", ": "))
    (Path(__file__).parent / "fields.json").write_text(text.replace("}, ", "},\n ") + "\n")


def add(message, table: dict[str, dict]) -> None:
    """Add a message and all that it holds: field -> [number, type, is repeated, oneof]."""
    if message.full_name in table:
        return
    rows = table[message.full_name] = {}
    for field in message.fields:
        kind = SCALARS.get(field.type)
        if field.enum_type:
            kind = "enum " + " ".join(f"{v.name}={v.number}" for v in field.enum_type.values)
        elif field.message_type:
            kind = f"message {field.message_type.full_name}"
            add(field.message_type, table)
        oneof = field.containing_oneof.name if field.containing_oneof else None
        rows[field.name] = [field.number, kind, bool(field.is_repeated), oneof]


if __name__ == "__main__":
    main(sys.argv[1])
