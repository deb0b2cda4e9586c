"""What checkers must refuse: every line marked "refused", and no other. It is checked, never run."""

from dtqkit import AsyncTaskQueue, Context, Job, TaskQueue, task
from dtqkit.control import JobQuery
from dtqkit.control.operations import GET_JOB, LIST_JOBS
from dtqkit.testing import TestQueue

queue = TaskQueue()


@queue.task(priority="high")
def render(page: int, dpi: int = 150) -> str:
    return f"{page} at {dpi}"


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def build(ctx: Context, n: int) -> int:
    return n


def report(n: int) -> str:
    return str(n)


queue.task(report).submit("three")  # refused
queue.task(name="again")(report).submit(3).result().bit_length()  # refused
render("three")  # refused
render.submit("three")  # refused
render.submit(3, dpi="fine")  # refused
render.submit(3, 4, 5)  # refused
render.submit()  # refused
render.submit(3, colour=True)  # refused
render.delay("three")  # refused
render.bind(dpi=3)  # refused
render.options(priority="urgent")  # refused
render.options(delay="3 s")  # refused
render.options(priority="low").submit("three")  # refused
render.submit(3).result(timeout="long")  # refused
render.map(3)  # refused
render.starmap([3])  # refused
render.starmap((1, 2))  # refused
words: list[str] = render.map([3]).results(return_exceptions=True)  # refused
render.map([3]).wait("long")  # refused
number: int = render.submit(3).result()  # refused
fetch.submit(3)  # refused
fetch.submit("a").result().encode()  # refused
build.submit()  # refused
build.submit("n")  # refused
queue.task(lambda page: page, priority="high")  # refused
queue.task(priority="urgent")  # refused
queue.task(isolation="fork")  # refused
queue.task(retries=3)  # refused
queue.jobs(colour="red")  # refused
queue.jobs(status="urgent")  # refused
queue.jobs(limit="50")  # refused
queue.dead_letters(since=7)  # refused
queue.requeue_dead(limit=3)  # refused
queue.history(columns=3)  # refused
queue.middleware(report)  # refused
queue.middleware(3)  # refused
queue.lifespan(report)  # refused
queue.lifespan(fetch)  # refused
TestQueue().advance(years=3)  # refused
TestQueue().advance(3)  # refused
TestQueue().submitted(3)  # refused
TestQueue().lose_worker("job")  # refused


async def awaits() -> None:
    q = AsyncTaskQueue()
    await q.submit(render, "three")  # refused
    await q.submit(build)  # refused
    await q.jobs(colour="red")  # refused
    await q.control.ask(GET_JOB, JobQuery())  # refused
    await q.control.ask(GET_JOB)  # refused
    page: Job = await q.control.ask(LIST_JOBS, JobQuery())  # refused
    print(page)
    number: int = await render.submit(3)  # refused
    print(number)
