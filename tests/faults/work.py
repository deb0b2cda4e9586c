"""One worker process of the fault tests: settings from the environment, `--naive NAME` for a mutation that must fail."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from typing import cast

from dtqkit import Priority, Settings, TaskQueue
from dtqkit.process import work
from tests.faults.naive import NAIVE


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--lanes", default="high,medium,low")
    parser.add_argument("--naive", default="", choices=["", *NAIVE])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    if arguments.naive:
        NAIVE[arguments.naive]()
    settings = Settings.from_env(os.environ)
    queue = TaskQueue(settings)
    queue.include("tests.faults.jobs")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    lanes = cast("list[Priority]", arguments.lanes.split(","))
    await work(settings, queue.registry, name=arguments.name, lanes=lanes, stop=stop)


if __name__ == "__main__":
    asyncio.run(main())
