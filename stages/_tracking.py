"""MLflow tracking: one parent run per pipeline execution, one nested run per executed stage.

The parent is found by the nearest ancestor `dvc` process (host, process id, creation time), so
plain `dvc repro`, `dvc exp run` and queued experiments each get their own without any wrapper. A
stage that DVC restores from its cache runs no code: its earlier run stays known through
results/runs/<stage>.json. This is the only module that imports mlflow, and only when tracking is
on.
"""

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.core.errors import UserError
from stages._schema import TrackingConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
KEY_TAG = "pipeline.key"  # on the parent run
STAGE_KEY_TAG = "pipeline.stage_key"  # the same value on its nested runs
MAX_PARAM_CHARACTERS = 500
BATCH_METRICS = 900


class TrackingError(UserError):
    """The tracking store cannot be used."""


class Tracker:
    """Record of one stage run. This base class records nothing (tracking=off)."""

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at a step (the epoch, or 0)."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters."""

    def log_figure(self, path: Path) -> None:
        """Keep a picture or a small file as an artifact."""

    def log_model(self, path: Path, name: str) -> None:
        """Keep an ONNX model and register it as a new version with the alias `champion`."""

    def complete_parent(
        self,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        files: Sequence[Path],
        runs: Mapping[str, Mapping[str, str | None]],
    ) -> None:
        """Copy everything to the parent run, and tag it with each stage's run.

        runs: stage -> {"run_id", "parent_run_id"}; a stage whose parent is another run was reused
        from the cache.
        """

    def ids(self) -> dict[str, str | None]:
        """Return the run's id and its parent's id, null where there is none."""
        return {"run_id": None, "parent_run_id": None}


class MlflowTracker(Tracker):
    """Record of one stage run in an MLflow store."""

    def __init__(
        self, client: "MlflowClient", run_id: str, parent_run_id: str | None, *, register: bool
    ) -> None:
        self.client = client
        self.run_id = run_id
        self.parent_run_id = parent_run_id
        self._register = register

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        log_metrics(self.client, self.run_id, metrics, step)

    def log_params(self, params: Mapping[str, object]) -> None:
        log_params(self.client, self.run_id, params)

    def log_figure(self, path: Path) -> None:
        self.client.log_artifact(self.run_id, str(path))

    def log_model(self, path: Path, name: str) -> None:
        if self._register:
            register_model(self.client, self.run_id, path, name)

    def complete_parent(
        self,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        files: Sequence[Path],
        runs: Mapping[str, Mapping[str, str | None]],
    ) -> None:
        target = self.parent_run_id or self.run_id
        log_params(self.client, target, params)
        log_metrics(self.client, target, metrics)
        for path in files:
            self.client.log_artifact(target, str(path))
        for stage, ids in runs.items():
            tag = f"stage.{stage.replace('@', '-')}"  # MLflow refuses @ in names
            reused = ids["parent_run_id"] != self.parent_run_id
            self.client.set_tag(target, f"{tag}.run_id", ids["run_id"] or "")
            self.client.set_tag(target, f"{tag}.reused", str(reused).lower())

    def ids(self) -> dict[str, str | None]:
        return {"run_id": self.run_id, "parent_run_id": self.parent_run_id}


@contextlib.contextmanager
def open_tracker(
    config: TrackingConfig, stage: str, params: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Open the nested run of a stage; it ends FINISHED, or FAILED when the block raises.

    params: all sections of resolved.yaml, recorded flat on the run.
    Raises TrackingError when the store cannot be reached.
    """
    if config.mode == "off" or is_helper_process():
        yield Tracker()
        return
    client = connect(config)
    experiment = experiment_id(client, config)
    parent = parent_run(client, experiment)
    run = client.create_run(experiment, tags=_run_tags(stage, parent), run_name=stage)
    tracker = MlflowTracker(client, run.info.run_id, parent, register=config.register_models)
    tracker.log_params(params)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    finally:
        for run_id in filter(None, (tracker.run_id, parent)):
            client.set_terminated(run_id, status=status)


def is_helper_process() -> bool:
    """Whether this is not the first process of a distributed training, which alone records."""
    return any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def connect(config: TrackingConfig) -> "MlflowClient":
    """Return a client for the configured store, which is made under a file lock when it is new.

    The lock is needed because SQLite stores break for good when several processes make them at
    once (mlflow 3.17: alembic migrations are not guarded). Raises TrackingError when mlflow is not
    installed or the store does not answer.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise TrackingError(
            f"tracking.mode={config.mode} needs mlflow, and {error.name} is not installed; set "
            "tracking: off in params.yaml and run python -m stages.compose, or: "
            "python -m pip install -c constraints.txt mlflow psutil"
        ) from error

    uri = store_uri(config)
    root = main_root()
    with (root / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            client = mlflow.MlflowClient(uri)
            client.search_experiments(max_results=1)
        except mlflow.exceptions.MlflowException as error:
            line = str(error).splitlines()[0]
            raise TrackingError(
                f"MLflow store {uri} does not answer ({line}); mend it or set tracking=off"
            ) from error
    mlflow.set_tracking_uri(uri)
    return client


def store_uri(config: TrackingConfig) -> str:
    """Return the store's address; the local one is absolute, as temporary experiments run
    elsewhere."""
    return (
        config.server_uri or ""
        if config.mode == "server"
        else f"sqlite:///{main_root() / DATABASE}"
    )


def main_root() -> Path:
    """Return the repository's root, also from within a temporary DVC experiment below
    .dvc/tmp/exps."""
    return Path(str(Path.cwd().resolve()).split("/.dvc/tmp/exps/")[0])


def experiment_id(client: "MlflowClient", config: TrackingConfig) -> str:
    """Return the id of the experiment, made on first use with an absolute artifact folder."""
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return str(found.experiment_id)
    place = None if config.mode == "server" else (main_root() / ARTIFACTS).as_uri()
    with (main_root() / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = client.get_experiment_by_name(config.experiment)
        if found is None:
            return str(client.create_experiment(config.experiment, artifact_location=place))
    return str(found.experiment_id)


def parent_run(client: "MlflowClient", experiment: str) -> str | None:
    """Return the id of this pipeline execution's parent run, made on first use; None outside a
    pipeline."""
    key = pipeline_key()
    if key is None:
        return None
    found = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    close_dead_runs(client, experiment)
    name = os.environ.get("DVC_EXP_NAME") or time.strftime("repro-%Y-%m-%d-%H%M%S")
    run = client.create_run(experiment, tags={KEY_TAG: key, **_git_tags()}, run_name=name)
    return str(run.info.run_id)


def pipeline_key() -> str | None:
    """Identify the pipeline execution: PIPELINE_RUN_KEY, or the nearest ancestor `dvc` process."""
    if os.environ.get("PIPELINE_RUN_KEY"):
        return os.environ["PIPELINE_RUN_KEY"]
    import psutil

    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(part).name == "dvc" for part in process.cmdline()[:3]):
                return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"
    return None


def close_dead_runs(client: "MlflowClient", experiment: str) -> None:
    """Mark runs KILLED whose pipeline on this host is gone, parents and nested runs alike."""
    import psutil

    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        key = run.data.tags.get(KEY_TAG) or run.data.tags.get(STAGE_KEY_TAG, "")
        host, _, rest = key.partition(":")
        pid, _, _ = rest.partition(":")
        if host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid)):
            client.set_terminated(run.info.run_id, status="KILLED")


def log_params(client: "MlflowClient", run_id: str, params: Mapping[str, object]) -> None:
    """Record nested values under dotted names, as text."""
    from mlflow.entities import Param

    flat = [Param(key, str(value)[:MAX_PARAM_CHARACTERS]) for key, value in _leaves(params)]
    for start in range(0, len(flat), 100):
        client.log_batch(run_id, params=flat[start : start + 100])


def log_metrics(
    client: "MlflowClient", run_id: str, metrics: Mapping[str, float], step: int = 0
) -> None:
    """Record numbers at a step, all in one call."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [Metric(_metric_name(key), float(value), now, step) for key, value in metrics.items()]
    for start in range(0, len(points), BATCH_METRICS):
        client.log_batch(run_id, metrics=points[start : start + BATCH_METRICS])


def register_model(client: "MlflowClient", run_id: str, path: Path, name: str) -> None:
    """Keep an ONNX file as an MLflow model of the run; `models:/<name>@champion` points at it."""
    import mlflow
    import mlflow.onnx
    import onnx

    model = onnx.load(str(path))
    with mlflow.start_run(run_id=run_id):
        mlflow.onnx.log_model(model, name=name, registered_model_name=name)
    versions = client.search_model_versions(f"name = '{name}'")
    newest = max(int(version.version) for version in versions)
    client.set_registered_model_alias(name, "champion", str(newest))


def _run_tags(stage: str, parent: str | None) -> dict[str, str]:
    tags = {"dvc.stage": stage, STAGE_KEY_TAG: pipeline_key() or ""}
    return {**tags, "mlflow.parentRunId": parent} if parent else tags


def _git_tags() -> dict[str, str]:
    """Return the revision as tags; empty outside a git repository."""
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return {"mlflow.source.git.commit": done.stdout.strip()} if done.returncode == 0 else {}


def _leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _metric_name(name: str) -> str:
    """Replace what MLflow refuses in a metric's name."""
    return "".join(c if c.isalnum() or c in "_-./ :" else "_" for c in name)
