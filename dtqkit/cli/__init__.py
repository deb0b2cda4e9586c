"""The command line: the only place that wires everything. A module a command, or a small group of them."""

from __future__ import annotations

import typer

from dtqkit.cli import demo, jobs, server, submit, up, worker

app = typer.Typer(
    help="A distributed task queue: durable jobs on Redis and MongoDB.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # an error is told in one line, by dtqkit.__main__
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# In the order of `dtqkit --help`.
for command in (
    demo.demo,
    up.up,
    server.server,
    worker.worker,
    submit.submit,
    jobs.jobs,
    jobs.job,
    jobs.cancel,
    jobs.requeue,
):
    app.command()(command)
