// Sandboxes: made, found, kept, paused, ended; their ports.
import assert from "node:assert/strict";
import http from "node:http";

/** Says which path it was asked for; the smallest of the images' Pythons has no http.server. */
const PROGRAM = `
import socket
listening = socket.create_server(("127.0.0.1", 8000))
while True:
    connection, _ = listening.accept()
    body = b"from inside: " + connection.recv(65536).split()[1]
    head = b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n"
    connection.sendall(head % len(body) + body)
    connection.close()
`;

export async function made_found_kept_and_ended({ Sandbox, SandboxNotFoundError, until }) {
  const made = await Sandbox.create({
    timeoutMs: 120_000,
    metadata: { task: "a b&c" },
    envs: { COLOUR: "blue" },
  });
  assert.equal(await made.isRunning(), true);
  const info = await made.getInfo();
  assert.equal(info.sandboxId, made.sandboxId);
  assert.deepEqual(info.metadata, { task: "a b&c" });
  assert.equal(info.templateId, "base");
  await made.setTimeout(240_000);
  const later = await Sandbox.getInfo(made.sandboxId);
  assert.ok(later.endAt - info.endAt > 100_000);

  const same = await Sandbox.connect(made.sandboxId);
  assert.equal((await same.commands.run("echo $COLOUR")).stdout, "blue\n");
  assert.equal(await made.kill(), true);
  assert.equal(await made.isRunning(), false);
  assert.equal(await Sandbox.kill(made.sandboxId), false);
  await assert.rejects(Sandbox.connect(made.sandboxId), SandboxNotFoundError);
  await assert.rejects(made.commands.run("true"));

  const brief = await Sandbox.create({ timeoutMs: 1_000 });
  await until(async () => !(await brief.isRunning()), "the timeout's end");
}

export async function listed_by_filters_and_pages({ Sandbox }) {
  const made = [];
  try {
    for (const n of ["0", "1", "2"]) {
      made.push(await Sandbox.create({ timeoutMs: 60_000, metadata: { row: "javascript", n } }));
    }
    const pages = Sandbox.list({ query: { metadata: { row: "javascript" } }, limit: 2 });
    const first = await pages.nextItems();
    assert.equal(pages.hasNext, true);
    const rest = await pages.nextItems();
    assert.equal(pages.hasNext, false);
    const found = [...first, ...rest].map((one) => one.metadata.n);
    assert.deepEqual(found, ["2", "1", "0"]);
  } finally {
    await Promise.all(made.map((one) => one.kill()));
  }
}

export async function paused_and_resumed({ Sandbox }) {
  const made = await Sandbox.create({ timeoutMs: 120_000 });
  try {
    await made.files.write("kept", "kept");
    const command = await made.commands.run("sleep 2; echo went on", { background: true });
    assert.equal(await made.pause(), true);
    assert.equal(await made.isRunning(), false);
    assert.equal((await Sandbox.getInfo(made.sandboxId)).state, "paused");
    const paused = await Sandbox.list({ query: { state: ["paused"] } }).nextItems();
    assert.ok(paused.some((one) => one.sandboxId === made.sandboxId));
    const again = await Sandbox.connect(made.sandboxId);
    assert.equal(await again.isRunning(), true);
    assert.equal(await again.files.read("kept"), "kept");
    const joined = await again.commands.connect(command.pid);
    assert.match((await joined.wait()).stdout, /went on/);
  } finally {
    await made.kill();
  }
}

export async function ports_are_reached_by_their_host({ Sandbox, until }) {
  const made = await Sandbox.create({ timeoutMs: 120_000 });
  try {
    await made.files.write("answer.py", PROGRAM);
    await made.commands.run("python3 answer.py", { background: true });
    const host = made.getHost(8000);
    let answer = {};
    await until(async () => {
      answer = await got(host, "/asked?a=1");
      return answer.status !== 502;
    }, "the program's port");
    assert.deepEqual(answer, { status: 200, body: "from inside: /asked?a=1" });
  } finally {
    await made.kill();
  }
}

/** GET by a name of a sandbox's, which leads to this machine. */
function got(host, path) {
  const port = new URL(process.env.E2B_API_URL).port;
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, headers: { host } };
    const asked = http.get(options, (answer) => {
      let body = "";
      answer.on("data", (piece) => (body += piece));
      answer.on("end", () => resolve({ status: answer.statusCode, body }));
    });
    asked.on("error", reject);
  });
}
