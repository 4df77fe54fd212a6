"""Stage `compose`: conf/ and params.yaml -> resolved.yaml, which every other stage reads.

Run: python -m stages.compose (takes 1 s). It also keeps .work/machine.json, the fingerprint of
this machine on which the stage `engines` depends.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.core.errors import UserError
from stages._config import CONF, PARAMS, RESOLVED, ConfigError, compose, write_resolved
from stages._machine import write_machine

LOGGER = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Compose and write resolved.yaml; return the exit status."""
    argparse.ArgumentParser("python -m stages.compose", description=__doc__).parse_args(argv)
    try:
        sections = compose(PARAMS, CONF)
        check_backend(sections)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    write_resolved(sections, RESOLVED)
    write_machine()
    sys.stderr.write(f"compose: {len(sections)} sections -> {RESOLVED}\n")
    return 0


def check_backend(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse at once what the stage retrain refuses as well, but after hours of training.

    Raises ConfigError for fresh weights with backend=tao.
    """
    backend, weights = sections["backend"]["name"], sections["retrain"]["weights"]
    if backend == "tao" and weights != "pruned":
        raise ConfigError(
            f"retrain.weights is {weights}, but TAO trains the pruned network on and cannot start "
            "anew; expected pruned, or backend=torch"
        )


if __name__ == "__main__":
    sys.exit(main())
