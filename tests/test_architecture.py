"""The rules of the layout, held by reading the source: who may import whom, and what dvc.yaml must
name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = sorted(p.stem for p in (ROOT / "stages").glob("[!_]*.py"))
ROOMS = ("datasets", "detectnet", "gesturenet", "learning", "tao")
# The frame of every stage: its changes do not change what a stage computes.
FRAME = {f"stages/_{name}.py" for name in ("stage", "files", "config", "schema", "tracking")}
# Programs in a room that are no part of any stage and so may use the runtime itself: the labelling
# tool cuts what the runtime would, with the runtime's own functions.
ROOM_PROGRAMS = {"stages/gesturenet/label.py", "stages/gesturenet/labelling/cropping.py"}
LAZY_IN_DEPLOY = {
    "onnxruntime": {"engine_onnxruntime.py"},
    "openvino": {"engine_openvino.py"},
    "tritonclient": {"engine_triton.py"},
    "tensorrt": {"engine_tensorrt.py"},
    "pycuda": {"engine_tensorrt.py"},
    "paho": {"sink_mqtt.py"},
    "rclpy": {"sink_ros2.py"},
    "std_msgs": {"sink_ros2.py"},
    "geometry_msgs": {"sink_ros2.py"},
}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere: `a.b` and `a.b.c` for `from a.b import c`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def top_level_imports(path: Path) -> set[str]:
    """First parts of the modules imported at import time (not inside functions)."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def source_files(module: str) -> list[str]:
    """The project's file of a dotted module name, relative to the root, or nothing."""
    base = ROOT / Path(*module.split("."))
    found = [base.with_suffix(".py"), base / "__init__.py"]
    return [str(p.relative_to(ROOT)) for p in found if p.is_file()]


def closure(start: str) -> set[str]:
    """Every file of the project that a file reaches by imports, itself included."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        file = todo.pop()
        if file in seen or file in FRAME:
            continue
        seen.add(file)
        for module in imports_of(ROOT / file):
            todo.extend(source_files(module))
    return seen


def dvc_stages() -> dict[str, dict]:
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: entry.get("do", entry) for name, entry in declared.items()}


def test_deploy_never_imports_stages():
    guilty = [
        p
        for p in python_files("deploy")
        if any(m.split(".")[0] == "stages" for m in imports_of(p))
    ]
    assert guilty == []


def test_deploy_imports_only_the_standard_library_numpy_and_cv2_at_import_time():
    allowed = set(sys.stdlib_module_names) | {"numpy", "cv2", "deploy"}
    owners = {file for files in LAZY_IN_DEPLOY.values() for file in files}
    guilty = {
        str(p.relative_to(ROOT)): top_level_imports(p) - allowed
        for p in python_files("deploy")
        if p.name not in owners
    }
    assert {file: names for file, names in guilty.items() if names} == {}


def test_the_files_that_own_a_runtime_library_are_imported_inside_functions_only():
    owners = {f"deploy.{file[:-3]}" for files in LAZY_IN_DEPLOY.values() for file in files}
    guilty = []
    for path in python_files("deploy"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                guilty += [path.name] * bool(owners & {str(node.module), *named})
    assert guilty == []


@pytest.mark.parametrize(("package", "files"), sorted(LAZY_IN_DEPLOY.items()))
def test_each_runtime_library_is_imported_by_one_file(package: str, files: set[str]):
    users = {
        p.name
        for p in python_files("deploy")
        if any(m.split(".")[0] == package for m in imports_of(p))
    }
    assert users <= files


@pytest.mark.parametrize(
    ("package", "owner"), [("mlflow", "_tracking.py"), ("hydra", "_config.py")]
)
def test_one_module_owns_each_wiring_library(package: str, owner: str):
    users = {
        p.name
        for p in python_files("stages")
        if any(m.split(".")[0] == package for m in imports_of(p))
    }
    assert users <= {owner}


def test_no_stage_imports_another():
    modules = {f"stages.{name}" for name in STAGES}
    guilty = [p for p in python_files("stages") if imports_of(p) & modules]
    assert guilty == []


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_use_deploy_core_alone_and_no_stage_frame(room: str):
    wrong = []
    for path in python_files(f"stages/{room}"):
        is_program = str(path.relative_to(ROOT)) in ROOM_PROGRAMS
        for module in imports_of(path):
            parts = module.split(".")
            is_runtime = parts[0] == "deploy" and len(parts) > 1 and parts[1] != "core"
            if is_runtime and not is_program:
                wrong.append(f"{path.name}: {module}")
            if module.startswith(("stages._stage", "stages._tracking", "stages._config")):
                wrong.append(f"{path.name}: {module}")
    assert wrong == []


def test_no_stage_reaches_a_program_of_a_room():
    reached = {file for name in STAGES for file in closure(f"stages/{name}.py")}
    assert reached & ROOM_PROGRAMS == set()


def test_every_stage_file_is_a_stage_of_dvc_yaml_and_the_other_way_round():
    assert sorted(dvc_stages()) == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_dvc_deps_cover_all_code_that_a_stage_imports(name: str):
    deps = dvc_stages()[name]["deps"]
    reached = {f for f in closure(f"stages/{name}.py") if not f.endswith("__init__.py")}
    configs = {f for f in reached if f.endswith("config.py")}  # typed sections: tracked as params
    missing = [
        f
        for f in sorted(reached - configs)
        if not any(f == d or f.startswith(f"{d}/") for d in deps)
    ]
    assert missing == []


@pytest.mark.parametrize("name", [stage for stage in STAGES if stage not in ("compose", "report")])
def test_dvc_params_are_the_sections_that_a_stage_reads(name: str):
    from stages._schema import SECTIONS

    classes = {cls.__name__: section for section, cls in SECTIONS.items()}
    used = set()
    for node in ast.walk(ast.parse((ROOT / f"stages/{name}.py").read_text())):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if is_call and node.func.attr == "section" and isinstance(node.args[0], ast.Name):
            used.add(classes[node.args[0].id])
    declared = {s for p in dvc_stages()[name].get("params", []) for s in p["resolved.yaml"]}
    assert used == declared


def test_conf_groups_are_the_sections_and_params_yaml_names_each():
    from stages._schema import SECTIONS

    groups = {p.name for p in (ROOT / "conf").iterdir() if p.is_dir()}
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert groups == {*SECTIONS, "experiment"}
    assert set(params) == {*groups, "overrides"}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_help_that_needs_no_gpu_and_no_data(name: str, tmp_path: Path):
    command = [sys.executable, "-m", f"stages.{name}", "--help"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m stages.")


def test_light_stages_import_no_heavy_library_at_import_time():
    """`--help` and the stages that train nothing start quickly."""
    training = {"train.py", "prune.py", "retrain.py", "export.py", "gesture.py"}
    heavy = {
        "torch",
        "mlflow",
        "hydra",
        "modelopt",
        "matplotlib",
        "onnx",
        "openvino",
        "onnxruntime",
    }
    guilty = {p.name: top_level_imports(p) & heavy for p in (ROOT / "stages").glob("*.py")}
    guilty = {name: found for name, found in guilty.items() if name not in training}
    assert {name: found for name, found in guilty.items() if found} == {}
