"""Configuration: conf/ + params.yaml -> resolved.yaml -> typed sections.

`compose` (the first DVC stage) lets Hydra put the groups of conf/ together as params.yaml chooses,
validates every section against its schema and writes resolved.yaml. Every other stage reads
resolved.yaml alone. This is the only module that imports Hydra, and it does so only where it
composes or parses Hydra's override grammar.
"""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deploy.core.errors import UserError
from stages._schema import SECTIONS

CONF = Path("conf")
PARAMS = Path("params.yaml")
RESOLVED = Path("resolved.yaml")
GROUPS = (*sorted(SECTIONS), "experiment")
HEADER = "# Written by the stage `compose` from conf/ and params.yaml; edit those.\n"

Section = TypeVar("Section")


class ConfigError(UserError):
    """A configuration that a person can mend."""


class GroupChangeError(ConfigError):
    """A group choice was given where only values can be changed (exit status 2)."""


def compose(params_path: Path, conf_dir: Path) -> dict[str, dict[str, Any]]:
    """Compose, resolve and validate all sections, in sorted order.

    params_path: a mapping with one key per group (null = default of conf/config.yaml) and
    `overrides`. Raises ConfigError for an unknown group, choice, key, or a value of the wrong
    type.
    """
    params = read_yaml(params_path)
    choices = _group_choices(params, params_path)
    config = _compose_groups(conf_dir, choices)
    changes = params.get("overrides") or {}
    merged = _merge_known(config, changes, source=str(params_path))
    return {name: _plain(section_of(merged, cls)) for name, cls in sorted(SECTIONS.items())}


def write_resolved(sections: Mapping[str, object], path: Path) -> None:
    """Write resolved.yaml only when its content changes, so that its time stays."""
    text = HEADER + yaml.safe_dump(dict(sections), sort_keys=True, default_flow_style=False)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def load_resolved(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read resolved.yaml and apply value overrides in Hydra's grammar (`train.epochs=1`)."""
    if not path.is_file():
        raise ConfigError(
            f"{path} is not in {Path.cwd()}; "
            "run from the repository root, after: python -m stages.compose"
        )
    resolved = read_yaml(path)
    if not overrides:
        return resolved
    changes = OmegaConf.create({})
    for key, value in _parse_overrides(overrides):
        OmegaConf.update(changes, key, value)
    config = OmegaConf.create(resolved)
    plain = OmegaConf.to_container(changes)
    merged = _merge_known(config, plain, source="the command line")
    return {name: _plain(section_of(merged, cls)) for name, cls in sorted(SECTIONS.items())}


def section_of(resolved: Mapping[str, Any] | DictConfig, cls: type[Section]) -> Section:
    """Return the section described by the dataclass `cls` as a validated instance.

    Raises ConfigError that names the section, the key at fault and the known keys.
    """
    name = section_name(cls)
    if name not in resolved:
        raise ConfigError(
            f"section {name} is not in the configuration; run: python -m stages.compose"
        )
    try:
        merged = OmegaConf.merge(_schema(cls), resolved[name])
        instance = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(_explain(name, cls, error)) from error
    assert isinstance(instance, cls)
    return instance


def section_name(cls: type) -> str:
    """Return the resolved.yaml key of a section class."""
    return next(name for name, known in SECTIONS.items() if known is cls)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; ConfigError names the file when it is missing or broken."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); run from the repository root"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected a mapping of groups")
    return content


def _group_choices(params: Mapping[str, Any], path: Path) -> list[str]:
    unknown = sorted(set(params) - set(GROUPS) - {"overrides"})
    if unknown:
        known = ", ".join((*GROUPS, "overrides"))
        raise ConfigError(f"{path} has the unknown key {unknown[0]!r}; known: {known}")
    chosen = {name: params[name] for name in GROUPS if params.get(name) is not None}
    return [f"{name}={_choice(name, value, path)}" for name, value in chosen.items()]


def _choice(name: str, value: object, path: Path) -> str:
    if isinstance(value, bool):
        # YAML 1.1, which PyYAML reads, takes a plain `off` for false; DVC's -S writes it so.
        return "on" if value else "off"
    if not isinstance(value, str):
        raise ConfigError(
            f"{name} in {path} is {value!r}, expected the name of a file in {CONF / name}"
        )
    return value


def _compose_groups(conf_dir: Path, choices: Sequence[str]) -> DictConfig:
    import hydra
    from hydra.errors import HydraException

    choices = [f"+{choice}" if choice.startswith("experiment=") else choice for choice in choices]
    try:
        with hydra.initialize_config_dir(str(conf_dir.resolve()), version_base="1.3"):
            return hydra.compose("config", overrides=list(choices))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error


def _parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(_one_line(error)) from error
    pairs = []
    for override in parsed:
        key = override.key_or_group
        if key in GROUPS:
            raise GroupChangeError(
                f"{override.input_line}: a group cannot change for one stage; "
                f"run the pipeline: dvc exp run -S {override.input_line} "
                f"(without DVC: write it to {PARAMS}, then python -m stages.compose)"
            )
        if override.is_sweep_override() or override.is_delete():
            raise ConfigError(f"{override.input_line}: expected key=value with a single value")
        pairs.append((key, override.value()))
    return pairs


def _merge_known(config: DictConfig, changes: object, *, source: str) -> DictConfig:
    if not isinstance(changes, Mapping):
        raise ConfigError(
            f"overrides in {source} is {changes!r}, "
            "expected a mapping such as train: {epochs: 3}"
        )
    unknown = sorted(set(changes) - set(SECTIONS))
    if unknown:
        raise ConfigError(
            f"{source} sets the unknown section {unknown[0]!r}; "
            f"known: {', '.join(sorted(SECTIONS))}"
        )
    OmegaConf.set_struct(config, False)
    merged = OmegaConf.merge(config, OmegaConf.create(dict(changes)))
    assert isinstance(merged, DictConfig)
    OmegaConf.resolve(merged)
    return merged


def _schema(cls: type) -> DictConfig:
    """Return the structured config of a frozen dataclass with its nested frozen parts writable.

    OmegaConf 2.3 marks frozen dataclasses read-only, and merging lifts that from the top alone.
    """
    schema = OmegaConf.structured(cls)
    todo = [schema]
    while todo:
        node = todo.pop()
        OmegaConf.set_readonly(node, None)
        children = (child for _, child in node.items_ex(resolve=False))
        todo.extend(c for c in children if isinstance(c, DictConfig) and not c._is_none())
    return schema


def _plain(section: object) -> dict[str, Any]:
    container = OmegaConf.to_container(OmegaConf.structured(section), enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _explain(name: str, cls: type, error: Exception) -> str:
    if not isinstance(error, OmegaConfBaseException):
        return f"section {name}: {_one_line(error)}"
    key = ".".join(part for part in (name, error.full_key or "") if part)
    known = ", ".join(sorted(OmegaConf.structured(_nested(cls, error.full_key)).keys()))
    return f"{key}: {(error.msg or str(error)).splitlines()[0]}; known keys: {known}"


def _nested(cls: type, full_key: str | None) -> type:
    """Follow a dotted key into nested dataclasses and return the innermost class that holds it."""
    for part in (full_key or "").split(".")[:-1]:
        hint = get_type_hints(cls).get(part)
        kinds = (hint, *get_args(hint))
        inner = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
        if not inner:
            break
        cls = inner[0]
    return cls


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
