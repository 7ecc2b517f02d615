"use strict";
// What comes from a sandbox is put in as text alone: `textContent`, never as markup.

const LONGEST = 200000; // characters of output that are shown
const EVERY = 2000; // milliseconds
const byId = (id) => document.getElementById(id);
let guard = "";
let chosen = null;
let stream = null;

function element(kind, text, name) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

async function post(path) {
  const answer = await fetch(path, { method: "POST", headers: { "X-Stockade-Guard": guard } });
  if (answer.status === 401) location.reload();
  return answer;
}

async function end(id) {
  if (!confirm(`End the sandbox ${id}?`)) return;
  const answer = await post(`/ui/sandboxes/${encodeURIComponent(id)}/end`);
  byId("said").textContent = answer.ok ? "" : (await answer.json()).message;
  await look();
}

function choose(id) {
  chosen = id;
  if (stream) stream.close();
  byId("output").textContent = "";
  stream = new EventSource(`/ui/sandboxes/${encodeURIComponent(id)}/output`);
  stream.onmessage = (event) => show(JSON.parse(event.data));
  look();
}

function show(piece) {
  const output = byId("output");
  const below = output.scrollTop + output.clientHeight >= output.scrollHeight - 20;
  const text = (output.textContent + piece.text).slice(-LONGEST);
  output.textContent = text;
  if (below) output.scrollTop = output.scrollHeight;
}

function row(one, now) {
  const made = element("tr", "", one.state);
  if (one.id === chosen) made.classList.add("chosen");
  const name = made.appendChild(element("td", "")).appendChild(element("button", one.id, "id"));
  name.addEventListener("click", () => choose(one.id));
  for (const text of [
    one.template, one.wall, one.state, span(now - one.startedAt), span(one.endsAt - now),
    one.running.join("\n"), one.verdict,
  ]) made.appendChild(element("td", text));
  const ends = made.appendChild(element("td", "")).appendChild(element("button", "End"));
  ends.addEventListener("click", () => end(one.id));
  return made;
}

async function look() {
  let found;
  try {
    const answer = await fetch("/ui/sandboxes");
    if (answer.status === 401) return location.reload();
    found = await answer.json();
    byId("said").textContent = answer.ok ? "" : found.message;
    if (!answer.ok) return;
  } catch (error) {
    byId("said").textContent = "The server does not answer.";
    return;
  }
  guard = found.guard;
  byId("sandboxes").replaceChildren(...found.sandboxes.map((one) => row(one, found.now)));
  byId("none").hidden = found.sandboxes.length > 0;
  byId("leave").hidden = !found.login;
  const one = found.sandboxes.find((each) => each.id === chosen);
  byId("one").hidden = !one;
  if (!one) {
    if (stream) stream.close();
    stream = null;
    return;
  }
  byId("which").textContent = one.id;
  byId("metadata").textContent = Object.entries(one.metadata).map((each) => each.join(": ")).join(", ");
  byId("log").replaceChildren(...one.log.map((each) => element("li", `${each.time}  ${each.message}`, each.level)));
}

byId("leave").addEventListener("click", async () => { await post("/ui/logout"); location.reload(); });
look();
setInterval(look, EVERY);
