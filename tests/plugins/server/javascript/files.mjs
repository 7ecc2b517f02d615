// Files: contents, what is said of them, watching, signed links.
import assert from "node:assert/strict";

async function inside(Sandbox, work) {
  const made = await Sandbox.create({ timeoutMs: 120_000 });
  try {
    await work(made);
  } finally {
    await made.kill();
  }
}

export const written_read_and_described = ({ Sandbox, FileNotFoundError, FileType }) =>
  inside(Sandbox, async (made) => {
    const wrote = await made.files.write("notes/a.txt", "grün", { metadata: { by: "me" } });
    assert.equal(wrote.name, "a.txt");
    assert.ok(wrote.path.endsWith("/notes/a.txt"));
    assert.equal(await made.files.read("notes/a.txt"), "grün");
    const info = await made.files.getInfo(wrote.path);
    assert.equal(info.size, 5);
    assert.equal(info.type, FileType.FILE);
    assert.deepEqual(info.metadata, { by: "me" });
    assert.ok(info.permissions.startsWith("-rw"));
    assert.ok(Math.abs(info.modifiedTime - Date.now()) < 600_000);
    assert.equal(await made.files.exists("elsewhere"), false);
    assert.equal(await made.files.makeDir("notes/deep/er"), true);
    assert.equal(await made.files.makeDir("notes/deep"), false);
    const names = (await made.files.list("notes", { depth: 3 })).map((one) => one.name);
    assert.deepEqual(names.sort(), ["a.txt", "deep", "er"]);
    const moved = await made.files.rename("notes/a.txt", "notes/b.txt");
    assert.ok(moved.path.endsWith("/notes/b.txt"));
    assert.equal(await made.files.exists("notes/a.txt"), false);
    await made.files.remove("notes");
    assert.equal(await made.files.exists("notes"), false);
    await assert.rejects(made.files.read("notes/b.txt"), FileNotFoundError);
    await made.commands.run("ln -s /tmp link");
    assert.equal((await made.files.getInfo("link")).symlinkTarget, "/tmp");
  });

export const bytes_arrive_as_they_were_sent = ({ Sandbox }) =>
  inside(Sandbox, async (made) => {
    const data = new Uint8Array(5_000_000).map((_, n) => (n * 7 + (n >> 8)) & 255);
    const forms = {
      multipart: [data.buffer, {}],
      octets: [data.buffer, { useOctetStream: true }],
      gzip: [data.buffer, { gzip: true }],
      blob: [new Blob([data]), {}],
      stream: [new Blob([data]).stream(), {}],
    };
    for (const [name, [sent, options]] of Object.entries(forms)) {
      await made.files.write(name, sent, options);
      const found = await made.files.read(name, { format: "bytes" });
      assert.ok(Buffer.from(found).equals(Buffer.from(data)), name);
    }
    const pieces = [];
    for await (const piece of await made.files.read("blob", { format: "stream" })) {
      pieces.push(piece);
    }
    assert.ok(Buffer.concat(pieces).equals(Buffer.from(data)));
    const many = [0, 1, 2].map((n) => ({ path: `many/${n} ü.txt`, data: `${n}` }));
    assert.equal((await made.files.write(many)).length, 3);
    assert.equal(await made.files.read("many/2 ü.txt"), "2");
  });

export const a_folder_is_watched = ({ Sandbox, FilesystemEventType, until }) =>
  inside(Sandbox, async (made) => {
    await made.files.makeDir("watched/below");
    const seen = [];
    let ended = false;
    const handle = await made.files.watchDir("watched", (event) => seen.push(event), {
      recursive: true,
      onExit: () => (ended = true),
    });
    await made.files.write("watched/below/new", "1");
    await until(
      () => seen.some((one) => one.name === "below/new" && one.type === FilesystemEventType.WRITE),
      "the change's event",
    );
    await made.files.remove("watched/below/new");
    await until(() => seen.some((one) => one.type === FilesystemEventType.REMOVE), "the removal");
    await handle.stop();
    await until(() => ended, "the watch's end");
  });

export const signed_links = ({ Sandbox }) =>
  inside(Sandbox, async (made) => {
    const up = await made.uploadUrl("sent.txt", { useSignatureExpiration: 60_000 });
    const form = new FormData();
    form.append("file", new Blob(["by a link"]), "sent.txt");
    const posted = await fetch(up, { method: "POST", body: form });
    assert.equal(posted.status, 200);
    assert.equal(await made.files.read("sent.txt"), "by a link");
    const down = await made.downloadUrl("sent.txt", { useSignatureExpiration: 60_000 });
    const answer = await fetch(down);
    assert.equal(await answer.text(), "by a link");
    const other = new URL(down);
    other.searchParams.set("path", "other.txt");
    assert.equal((await fetch(other)).status, 401);
    assert.equal((await fetch(down, { method: "POST", body: form })).status, 401);
  });
