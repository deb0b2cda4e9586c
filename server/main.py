"""Production: listens on every address, with what the environment says (README.md lists the variables)."""

import os

from dtqkit.model.settings import Settings
from dtqkit.web.run import run


def main() -> None:
    settings = Settings.from_env()
    run(settings, host=os.environ.get("DTQ_HOST", "0.0.0.0"), processes=int(os.environ.get("WEB_CONCURRENCY", "1")))  # noqa: S104


if __name__ == "__main__":
    main()
