"""The tasks that the tests' server knows: published, and run where a test has a worker."""

from typing import Any

from dtqkit import Context, task


@task(priority="high")
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@task
def keep(value: Any = None) -> Any:
    """Give back whatever comes."""
    return value


@task(max_attempts=1)
def fail(message: str) -> None:
    """Raise an error."""
    raise ValueError(message)


@task
def note(ctx: Context, lines: int) -> int:
    """Log some lines and report progress."""
    for number in range(lines):
        ctx.log(f"line {number}")
        ctx.progress((number + 1) / lines, f"{number + 1} of {lines}")
    return lines


ALL = (add, keep, fail, note)
