// Runs in the guest, once: what code gets besides the guest's own functions. Text alone
// goes out, since the guest's console knows no bytes.
globalThis._stockade = async function (text, env, call_tool, read_file, write_file) {
  const PIECE = 2500; // characters; up to six bytes each once quoted, and 16 KiB go at once
  const show = (value) => {
    if (typeof value === "string") return value;
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    try { return JSON.stringify(value) ?? String(value); } catch (e) { return String(value); }
  };
  const write = (stream, line) => {
    for (let at = 0; at < line.length; at += PIECE)
      call_tool("_stockade_write", { stream, text: line.slice(at, at + PIECE) });
  };
  const print = (stream) => (...values) => write(stream, values.map(show).join(" ") + "\n");
  const console = { log: print(1), info: print(1), debug: print(1), warn: print(2), error: print(2) };
  class Exit { constructor(code) { this.code = code; } }
  const process = {
    env: { ...env }, argv: [""],
    exit(code = 0) { throw new Exit(code); },
    stdout: { write: (line) => write(1, String(line)) },
    stderr: { write: (line) => write(2, String(line)) },
  };
  // The guest's own timers break it: these hold the whole guest, as a sleep does.
  const setTimeout = (call, milliseconds = 0, ...values) => {
    call_tool("_stockade_sleep", { seconds: Math.max(0, milliseconds) / 1000 });
    Promise.resolve().then(() => call(...values));
    return 0;
  };
  // The folders are flat: a path is one name there, quoted as the host quotes it.
  const where = (path) => {
    const named = String(path).replace(/^\/workspace\//, "/output/").replace(/^\/tmp\//, "/output/tmp/");
    const [, top, rest] = /^\/(input|output)\/(.+)$/s.exec(named) ?? [null, "output", named];
    if (rest.startsWith("/")) return named;
    const parts = [];
    for (const part of rest.split("/"))
      if (part === "..") parts.pop(); else if (part && part !== ".") parts.push(part);
    const name = Array.from(new TextEncoder().encode(parts.join("/")), (byte, at) => {
      const char = String.fromCharCode(byte);
      const plain = /[A-Za-z0-9_-]/.test(char) || (char === "." && at);
      return plain ? char : "%" + byte.toString(16).toUpperCase().padStart(2, "0");
    });
    return `/${top}/${name.join("")}`;
  };
  const read = (path) => read_file(where(path));
  const save = (path, data) => {
    if (String(data).length > 4000)
      throw new Error("write_file takes 4000 characters at most in this guest");
    return write_file(where(path), String(data));
  };
  const Async = Object.getPrototypeOf(async function () {}).constructor;
  try {
    const code = new Async(
      "console", "process", "call_tool", "read_file", "write_file", "setTimeout", text);
    await code(console, process, call_tool, read, save, setTimeout);
    return 0;
  } catch (error) {
    if (error instanceof Exit) return error.code & 255;
    const stack = error && error.stack ? "\n" + error.stack : "";
    write(2, (error instanceof Error ? show(error) + stack : show(error)).trimEnd() + "\n");
    return 1;
  }
};
