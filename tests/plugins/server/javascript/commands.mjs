// Commands and terminals.
import assert from "node:assert/strict";

async function inside(Sandbox, work) {
  const made = await Sandbox.create({ timeoutMs: 120_000 });
  try {
    await work(made);
  } finally {
    await made.kill();
  }
}

export const in_the_foreground = ({ Sandbox, CommandExitError, TimeoutError, until }) =>
  inside(Sandbox, async (made) => {
    const found = await made.commands.run("echo $A; pwd; echo err >&2", {
      envs: { A: "1" },
      cwd: "/tmp",
    });
    assert.equal(found.stdout, "1\n/tmp\n");
    assert.equal(found.stderr, "err\n");
    assert.equal(found.exitCode, 0);
    await assert.rejects(made.commands.run("echo so far; exit 7"), (error) => {
      assert.ok(error instanceof CommandExitError);
      assert.equal(error.exitCode, 7);
      assert.equal(error.stdout, "so far\n");
      return true;
    });
    await assert.rejects(made.commands.run("sleep 120 # late", { timeoutMs: 1_000 }), TimeoutError);
    await until(
      async () => !(await made.commands.list()).some((one) => `${one.args}`.includes("# late")),
      "the end of the late one",
    );
  });

export const output_comes_live_and_whole = ({ Sandbox }) =>
  inside(Sandbox, async (made) => {
    const came = [];
    await made.commands.run("echo one; sleep 1; echo two >&2", {
      onStdout: (text) => came.push([Date.now(), text]),
      onStderr: (text) => came.push([Date.now(), text]),
    });
    assert.deepEqual(came.map((one) => one[1]), ["one\n", "two\n"]);
    assert.ok(came[1][0] - came[0][0] > 500);
    const longer = await made.commands.run("head -c 5000000 /dev/zero | tr '\\0' x");
    assert.equal(longer.stdout.length, 5_000_000);
    const split = await made.commands.run("printf '\\303'; sleep 0.3; printf '\\274'");
    assert.equal(split.stdout, "ü");
  });

export const in_the_background = ({ Sandbox, CommandExitError }) =>
  inside(Sandbox, async (made) => {
    const line = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done";
    const command = await made.commands.run(line, { background: true });
    const listed = await made.commands.list();
    assert.ok(listed.some((one) => one.pid === command.pid));
    await command.disconnect();
    const heard = [];
    const again = await made.commands.connect(command.pid, { onStdout: (t) => heard.push(t) });
    const result = await again.wait();
    assert.equal(result.exitCode, 0);
    assert.ok(result.stdout.endsWith("6\n") && heard.join("") === result.stdout);

    const sleeper = await made.commands.run("sleep 300", { background: true });
    assert.equal(await sleeper.kill(), true);
    await assert.rejects(sleeper.wait(), (error) => {
      assert.ok(error instanceof CommandExitError);
      assert.equal(error.exitCode, 137);
      return true;
    });
    assert.equal(await made.commands.kill(sleeper.pid), false);
    const asked = await made.commands.run("kill -TERM $$", { background: true });
    await assert.rejects(asked.wait(), (error) => error.exitCode === 143);
  });

export const input_while_one_runs = ({ Sandbox }) =>
  inside(Sandbox, async (made) => {
    const command = await made.commands.run("cat", { background: true, stdin: true });
    await made.commands.sendStdin(command.pid, "one\n");
    await command.sendStdin(new TextEncoder().encode("zwölf\n"));
    assert.equal(made.commands.supportsStdinClose, true);
    await command.closeStdin();
    assert.equal((await command.wait()).stdout, "one\nzwölf\n");
  });

export const a_terminal = ({ Sandbox }) =>
  inside(Sandbox, async (made) => {
    let seen = "";
    const onData = (data) => (seen += new TextDecoder().decode(data));
    const terminal = await made.pty.create({ cols: 90, rows: 30, onData, timeoutMs: 60_000 });
    await made.pty.resize(terminal.pid, { cols: 111, rows: 40 });
    await made.pty.sendInput(terminal.pid, new TextEncoder().encode("stty size; exit 3\n"));
    await assert.rejects(terminal.wait(), (error) => error.exitCode === 3);
    assert.match(seen, /40 111/);

    const left = await made.pty.create({ cols: 80, rows: 24, onData: () => {} });
    await left.disconnect();
    let later = "";
    const joined = await made.pty.connect(left.pid, {
      onData: (data) => (later += new TextDecoder().decode(data)),
    });
    await made.pty.sendInput(left.pid, new TextEncoder().encode("echo $((40 + 2))$((7 * 6))\n"));
    await made.pty.sendInput(left.pid, new TextEncoder().encode("exit 0\n"));
    await joined.wait();
    assert.match(later, /4242/);
    const killed = await made.pty.create({ cols: 80, rows: 24, onData: () => {} });
    assert.equal(await made.pty.kill(killed.pid), true);
    await assert.rejects(killed.wait(), (error) => error.exitCode === 137);
  });
