// BullMQ with 50 jobs at a time: `node bullmq_app.mjs N` enqueues, `node bullmq_app.mjs worker` works.
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

const connection = new Redis(process.env.BENCH_REDIS, { maxRetriesPerRequest: null });

if (process.argv[2] === "worker") {
  const work = async (job) => {
    if (job.name === "done") await connection.set("done", 1);
  };
  new Worker("bench", work, { connection, concurrency: 50, removeOnComplete: { count: 0 } });
} else {
  const queue = new Queue("bench", { connection });
  const total = Number(process.argv[2]);
  for (let start = 0; start < total; start += 500) {
    const size = Math.min(500, total - start);
    await queue.addBulk(Array.from({ length: size }, (_, n) => ({ name: "noop", data: { n: start + n } })));
  }
  await queue.add("done", {});
  await queue.close();
  connection.disconnect();
}
