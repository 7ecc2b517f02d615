// Code, as notebooks have it.
import assert from "node:assert/strict";

async function inside(sdk, work) {
  const made = await sdk.interpreter.Sandbox.create({ timeoutMs: 120_000 });
  try {
    await work(made);
  } finally {
    await made.kill();
  }
}

export const variables_values_output_and_errors = (sdk) =>
  inside(sdk, async (made) => {
    await made.runCode("total = 40");
    const live = [];
    const code = "import sys\nprint('out'); print('err', file=sys.stderr)\ntotal + 2";
    const found = await made.runCode(code, {
      onStdout: (one) => live.push(one.line),
      onStderr: (one) => live.push(one.line),
      onResult: (one) => live.push(one.text),
    });
    assert.equal(found.text, "42");
    assert.equal(found.logs.stdout.join(""), "out\n");
    assert.equal(found.logs.stderr.join(""), "err\n");
    assert.deepEqual(live.sort(), ["42", "err\n", "out\n"]);
    const errors = [];
    const failed = await made.runCode("1 / 0", { onError: (error) => errors.push(error) });
    assert.equal(failed.error.name, "ZeroDivisionError");
    assert.match(failed.error.traceback, /Traceback/);
    assert.equal(errors.length, 1);
    assert.equal((await made.runCode("total")).text, "40");
    const env = await made.runCode("import os\nos.environ['A']", { envs: { A: "x" } });
    assert.equal(env.text, "'x'");
    assert.ok(env.executionCount > found.executionCount);
  });

export const displays_have_their_forms = (sdk) =>
  inside(sdk, async (made) => {
    const code = [
      "class Shown:",
      "    def _repr_html_(self): return '<b>1</b>'",
      "    def _repr_png_(self): return b'\\x89PNG'",
      "    def _repr_markdown_(self): return '**1**'",
      "display(Shown())",
      "'main'",
    ];
    const [shown, main] = (await made.runCode(code.join("\n"))).results;
    assert.equal(shown.html, "<b>1</b>");
    assert.equal(shown.png.trim(), "iVBORw==");
    assert.equal(shown.markdown, "**1**");
    assert.equal(shown.isMainResult, false);
    assert.equal(main.text, "'main'");
    assert.equal(main.isMainResult, true);
  });

export const contexts_are_apart = (sdk) =>
  inside(sdk, async (made) => {
    const context = await made.createCodeContext({ cwd: "/tmp" });
    const place = await made.runCode("x = 1\nimport os\nos.getcwd()", { context });
    assert.equal(place.text, "'/tmp'");
    assert.equal((await made.runCode("x", { context })).text, "1");
    assert.equal((await made.runCode("x")).error.name, "NameError");
    const ids = async () => (await made.listCodeContexts()).map((one) => one.id);
    assert.ok((await ids()).includes(context.id));
    await made.restartCodeContext(context);
    assert.equal((await made.runCode("x", { context })).error.name, "NameError");
    await made.removeCodeContext(context);
    assert.ok(!(await ids()).includes(context.id));
  });

export const other_languages_and_ends = (sdk) =>
  inside(sdk, async (made) => {
    await made.runCode("total=40", { language: "bash" });
    const found = await made.runCode("echo $((total + 2))", { language: "bash" });
    assert.equal(found.logs.stdout.join(""), "42\n");
    await made.runCode("kept = 'kept'");
    const endless = "import time\nwhile True: time.sleep(0.01)";
    await assert.rejects(made.runCode(endless, { timeoutMs: 1_000 }));
    assert.equal((await made.runCode("kept", { timeoutMs: 20_000 })).text, "'kept'");
    await assert.rejects(made.runCode("1", { language: "java" }), /501/);
  });
