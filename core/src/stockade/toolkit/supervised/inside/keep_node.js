// A node that keeps its variables. It reads what it is to run from its standard input, one
// object of JSON each, ended by NUL; what it says of it goes to its standard output, a line each.
"use strict";
(() => {
  const fs = require("fs"), util = require("util"), repl = require("repl");
  const { PassThrough, Writable } = require("stream");
  const { O_RDONLY, O_WRONLY } = fs.constants;
  const input = fs.openSync("/proc/self/fd/0", O_RDONLY);
  const output = fs.openSync("/proc/self/fd/1", O_WRONLY);
  const MOST = 64 << 10;
  // Frames that only ran the code.
  const OURS = /^ +at .*\(?(node:(vm|domain|repl|internal\/vm)|\[eval\])/;

  let secret = "";
  const say = (text) => fs.writeSync(output, `${secret} ${text}\n`);
  // The lowest number that is free is the one that is taken.
  const put = (number, path, flags) => {
    fs.closeSync(number);
    const got = fs.openSync(path, flags);
    if (got !== number) throw new Error("a standard stream was taken away");
  };
  const streams = (from) => [0, 1, 2].forEach((number) =>
    put(number, from ? `/proc/${from}/fd/${number}` : "/dev/null", number ? O_WRONLY : O_RDONLY));
  streams(null);

  // Written at once: what node's own streams keep for later is lost, or the next code's.
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const write = (number, data) => {
    while (data.length)
      try { data = data.subarray(fs.writeSync(number, data)); }
      catch (error) {
        if (error.code !== "EAGAIN") return; // nobody reads
        Atomics.wait(pause, 0, 0, 1);
      }
  };
  const own = {};
  const make = (name, number) => {
    const before = own[name];
    const stream = own[name] = new Writable({
      autoDestroy: false, write: (data, _, done) => { write(number, data); done(); },
    });
    stream.fd = number;
    Object.defineProperty(process, name,
      { configurable: true, enumerable: true, get: () => stream });
    if (before && console[`_${name}`] === before) console[`_${name}`] = stream;
  };
  make("stdout", 1);
  make("stderr", 2);
  // One that an interrupt has cut short waits for its own end for ever.
  const mend = () => Object.keys(own).forEach((name) => {
    if (own[name].writableLength && process[name] === own[name]) make(name, own[name].fd);
  });

  const nothing = new PassThrough();
  nothing.resume();
  const server = repl.start({
    prompt: "", input: new PassThrough(), output: nothing, terminal: false,
    useGlobal: true, breakEvalOnSigint: true, ignoreUndefined: true,
  });
  server.removeAllListeners("exit");
  process.removeAllListeners("SIGINT");
  const tell = (error) => write(2, Buffer.from("Uncaught " + shown(error) + "\n"));
  const shown = (error) => {
    try {
      if (!(error instanceof Error) || !error.stack) return util.inspect(error);
      const lines = String(error.stack).split("\n");
      const ours = lines.findIndex((line) => OURS.test(line));
      return lines.slice(0, ours < 0 ? lines.length : ours).join("\n");
    }
    catch { return "an error that cannot be shown"; }
  };
  // Where an error of the code that runs goes to, and one that comes later.
  let failed = null;
  const caught = (error) => failed ? failed(error) : tell(error);
  process.on("uncaughtException", caught);
  // While code runs at once node itself listens, and takes no listener beside it.
  const interrupted = () => failed && failed(Object.assign(
    new Error("Script execution was interrupted by `SIGINT`"), { stack: "" }));
  const listen = (yes) => process[yes ? "on" : "off"]("SIGINT", interrupted);
  listen(true);
  if (server._domain) server._domain.removeAllListeners("error").on("error", caught);
  if (server._handleError) server._handleError = caught;

  const record = (kind, parts) => {
    const content = Buffer.concat(parts), head = Buffer.alloc(5);
    head.writeUInt32LE(content.length);
    head.write(kind, 4, "latin1");
    say("shown " + Buffer.concat([head, content]).toString("base64"));
  };
  const cut = (text) => text.length <= MOST ? text
    : text.slice(0, MOST / 2) + "\n...\n" + text.slice(-MOST / 2);
  const form = (mime, data) => {
    const name = Buffer.from(mime), head = Buffer.alloc(6);
    data = Buffer.from(data);
    head.writeUInt16LE(name.length);
    head.writeUInt32LE(data.length, 2);
    return Buffer.concat([head, name, data]);
  };
  const show = (kind, value) => record(kind, [form("text/plain", util.inspect(value))]);
  const error = (found) => record("E", [found?.name ?? typeof found, found?.message ?? found,
    shown(found)].map((text) => {
    const data = Buffer.from(cut(String(text))), head = Buffer.alloc(4);
    head.writeUInt32LE(data.length);
    return Buffer.concat([head, data]);
  }));
  globalThis.display = (...values) => values.forEach((value) => show("D", value));

  const evaluate = (code, name) => new Promise((done) => {
    failed = (error) => { failed = null; done([error ?? new Error(String(error))]); };
    listen(false);
    server.eval(code + "\n", server.context, name, (found, value) =>
      { failed = null; done([found?.err ?? found, value]); });
    listen(true);
  });
  let count = 0;
  const run = async (job) => {
    secret = job.secret; // so that nothing else of its tree answers
    try { process.chdir(job.folder); } catch { say("nowhere"); return; }
    while (!fs.existsSync(`/proc/${job.lender}/fd/7`) && fs.existsSync(`/proc/${job.lender}`));
    try { streams(job.lender); } catch { streams(null); say("lost"); return; }
    const before = Object.keys(job.env).map((name) => [name, process.env[name]]);
    Object.assign(process.env, job.env);
    say("entered");
    const [found, value] = await evaluate(job.code, `<code ${++count}>`);
    mend();
    if (found) { tell(found); error(found); }
    else if (value !== undefined) show("V", value);
    for (const [name, old] of before)
      if (old === undefined) delete process.env[name]; else process.env[name] = old;
    streams(null);
    say(`ended ${found ? 1 : 0}`);
  };

  // Read without waiting in a system call, so that timers go on between jobs.
  let held = [], busy = false;
  const waiting = [];
  const next = async () => {
    if (busy || !waiting.length) return;
    busy = true;
    await run(JSON.parse(waiting.shift()));
    busy = false;
    next();
  };
  fs.createReadStream(null, { fd: input }).on("data", (data) => {
    for (let at; (at = data.indexOf(0)) >= 0; data = data.subarray(at + 1)) {
      waiting.push(Buffer.concat([...held, data.subarray(0, at)]).toString());
      held = [];
    }
    held.push(data);
    next();
  }).on("end", () => process.exit(0));
})();
