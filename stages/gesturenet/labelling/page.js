"use strict";
// Crops keep their place in the group of their suggestion; a class changes their colour alone.
const data = JSON.parse(document.getElementById("data").textContent);
const {classes, discard} = data;
const TINTS = ["#d9772b", "#c8414b", "#2f9a58", "#2878c8", "#8a4fc4", "#16918f", "#b8348f", "#8f7a1e", "#4f5bd5"];
const NO_SUGGESTION = "no suggestion";
const BATCH = 2000; // names in one request: far below the server's limit
const RETRY_MS = 2000;
const element = (id) => document.getElementById(id);
const tint = (label) => classes.includes(label) ? TINTS[classes.indexOf(label)] : "#6d7682";

const labels = new Map(Object.entries(data.labels));
const crops = data.crops.map(([name, suggestion, sure], index) => ({name, suggestion, sure, index, tile: null}));
const groups = [...classes, NO_SUGGESTION].map((title) => ({
  title,
  crops: crops.filter((crop) => (crop.suggestion ?? NO_SUGGESTION) === title),
})).filter((group) => group.crops.length);
const byTile = new Map();
const byName = new Map(crops.map((crop) => [crop.name, crop]));

let visible = []; // crops that the filter shows, in the order of the page
let chosen = new Set();
let cursor = null;
let anchor = null;
const past = []; // for undo: earlier labels by name

function make(tag, text = "", properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text) made.textContent = text;
  return made;
}

function makeTile(crop) {
  const tile = make("div", "", {className: "tile", tabIndex: -1, title: crop.name});
  tile.setAttribute("role", "option");
  const picture = make("img", "", {loading: "lazy", decoding: "async", draggable: false, alt: "", width: 160, height: 160});
  picture.src = `${data.pictures}/${crop.name}`;
  const line = make("span");
  line.append(make("em"), make("small"));
  tile.append(picture, line);
  crop.tile = tile;
  byTile.set(tile, crop);
  return tile;
}

function paintTile(crop) {
  const said = labels.get(crop.name);
  const [name, sure] = crop.tile.lastChild.children;
  crop.tile.className = `tile${said ? " said" : ""}${said === discard ? " discard" : ""}${chosen.has(crop) ? " chosen" : ""}`;
  crop.tile.style.setProperty("--tint", tint(said));
  name.textContent = said === discard ? "thrown away" : said ?? (crop.suggestion ? `${crop.suggestion}?` : "?");
  sure.textContent = said ? (said === crop.suggestion ? "\u2713" : "") : crop.sure === null ? "" : crop.sure.toFixed(2);
  crop.tile.setAttribute("aria-selected", chosen.has(crop));
}

function makeClassButton(key, text, label, onclick) {
  const button = make("button", "", {onclick});
  button.style.setProperty("--tint", tint(label));
  button.append(make("kbd", key), make("span", text), make("b"));
  element("classes").append(button);
}

function build() {
  classes.forEach((label, index) => makeClassButton(String(index + 1), label, label, () => assign(label)));
  makeClassButton("0", "throw away", discard, () => assign(discard));
  if (crops.some((crop) => crop.suggestion)) makeClassButton("Enter", "is right", null, confirmChosen);
  for (const group of groups) {
    group.section = make("section");
    group.grid = make("div", "", {className: "grid"});
    group.grid.setAttribute("role", "listbox");
    group.grid.setAttribute("aria-multiselectable", "true");
    group.grid.setAttribute("aria-label", group.title);
    group.note = make("small");
    group.right = make("button", "All correct", {title: "Each crop here that has no class yet gets its suggestion", onclick: () => accept(group)});
    group.all = make("button", "Select", {onclick: () => choose(group.crops.filter(isShown))});
    const title = make("h2");
    title.style.setProperty("--tint", tint(group.title));
    title.append(make("i"), make("span", group.title), group.note, group.right, group.all);
    group.section.append(title, group.grid);
    group.crops.forEach((crop) => makeTile(crop));
    element("groups").append(group.section);
  }
  element("groups").append(make("p", "", {className: "empty", id: "empty"}));
  element("finish").textContent = data.token ? "Write class folders" : "Download labels.json";
  arrange();
  crops.forEach(paintTile);
  show();
}

function arrange() {
  const doubt = (crop) => crop.sure ?? 0;
  const isByDoubt = element("order").value === "doubt";
  for (const group of groups) {
    group.crops.sort((a, b) => isByDoubt ? doubt(a) - doubt(b) || a.index - b.index : a.index - b.index);
    group.grid.append(...group.crops.map((crop) => crop.tile));
  }
}

function isShown(crop) {
  const filter = element("filter").value;
  if (filter === "all" || !filter) return true;
  return filter === "unsorted" ? !labels.has(crop.name) : labels.get(crop.name) === filter;
}

// Bring counters and the filter up to date.
function show() {
  const count = new Map();
  for (const crop of crops) {
    const said = labels.get(crop.name) ?? "unsorted";
    count.set(said, (count.get(said) ?? 0) + 1);
  }
  const number = (label) => count.get(label) ?? 0;
  classes.concat(discard).forEach((label, index) => { element("classes").children[index].lastChild.textContent = number(label); });
  const filters = [["all", "all", crops.length], ["unsorted", "to sort", number("unsorted")],
    ...classes.map((label) => [label, label, number(label)]), [discard, "thrown away", number(discard)]];
  const filter = element("filter").value || "all";
  element("filter").replaceChildren(...filters.map(([value, text, total]) => make("option", `${text} (${total})`, {value})));
  element("filter").value = filter;
  visible = [];
  for (const group of groups) {
    const shown = group.crops.filter(isShown);
    for (const crop of group.crops) crop.tile.hidden = !isShown(crop);
    visible.push(...shown);
    const left = shown.filter((crop) => !labels.has(crop.name)).length;
    group.section.hidden = !shown.length;
    group.note.textContent = `${shown.length} crop${shown.length === 1 ? "" : "s"}, ${left} to sort`;
    group.right.hidden = group.title === NO_SUGGESTION;
    group.right.disabled = !left;
  }
  if ([...chosen].some((crop) => !isShown(crop))) choose([...chosen].filter(isShown));
  const done = crops.length - number("unsorted");
  element("sorted").textContent = `${done} of ${crops.length} sorted`;
  element("progress").value = crops.length ? done / crops.length : 0;
  element("undo").disabled = !past.length;
  element("empty").textContent = visible.length ? "" : filter === "unsorted" ? "All sorted." : "Nothing here.";
}

function choose(list, at = null) {
  const before = chosen;
  chosen = new Set(list);
  new Set([...before, ...chosen]).forEach(paintTile);
  if (at) moveTo(at);
}

function moveTo(crop) {
  if (cursor) cursor.tile.tabIndex = -1;
  cursor = crop;
  crop.tile.tabIndex = 0;
  crop.tile.focus({preventScroll: true});
  crop.tile.scrollIntoView({block: "nearest"});
}

function chooseRange(to) {
  const ends = [visible.indexOf(anchor), visible.indexOf(to)].sort((a, b) => a - b);
  choose(ends[0] < 0 ? [to] : visible.slice(ends[0], ends[1] + 1), to);
}

function click(event) {
  const crop = byTile.get(event.target.closest(".tile"));
  if (!crop) return;
  if (event.shiftKey && anchor) { chooseRange(crop); return; }
  anchor = crop;
  if (event.ctrlKey || event.metaKey || event.pointerType === "touch") {
    choose(chosen.has(crop) ? [...chosen].filter((other) => other !== crop) : [...chosen, crop], crop);
  } else choose([crop], crop);
}

// The tile beside, or the nearest one of the row above or below, also of the next group.
function neighbour(key) {
  const at = visible.indexOf(cursor);
  if (at < 0) return visible[0];
  if (key === "ArrowLeft") return visible[at - 1];
  if (key === "ArrowRight") return visible[at + 1];
  const step = key === "ArrowDown" ? 1 : -1;
  const from = cursor.tile.getBoundingClientRect();
  let best = null;
  for (let index = at + step; index >= 0 && index < visible.length; index += step) {
    const box = visible[index].tile.getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 4) continue;
    if (best && Math.abs(box.top - best.top) > 4) break;
    const far = Math.abs(box.left - from.left);
    if (!best || far < best.far) best = {crop: visible[index], top: box.top, far};
  }
  return best?.crop;
}

function assign(label) {
  give([...chosen].map((crop) => [crop, label]));
}

function confirmChosen() {
  give([...chosen].filter((crop) => crop.suggestion && !labels.has(crop.name)).map((crop) => [crop, crop.suggestion]));
}

// Give crops classes, then go on to the one after the last of them.
function give(pairs) {
  if (!pairs.length) { tell(chosen.size ? "These have a class already." : "Choose a hand first."); return; }
  const last = Math.max(...[...chosen].map((crop) => visible.indexOf(crop)));
  const next = visible[last + 1] ?? visible[last];
  const isMany = chosen.size > 1;
  commit(new Map(pairs.map(([crop, label]) => [crop.name, label])));
  const target = isShown(next) ? next : visible[0];
  anchor = target ?? null;
  choose(target && !(isMany && target === visible[last]) ? [target] : [], target);
}

function accept(group) {
  const open = group.crops.filter((crop) => isShown(crop) && !labels.has(crop.name));
  commit(new Map(open.map((crop) => [crop.name, crop.suggestion])));
}

function commit(changes) {
  const real = [...changes].filter(([name, label]) => labels.get(name) !== label);
  if (!real.length) return;
  past.push(new Map(real.map(([name]) => [name, labels.get(name) ?? null])));
  apply(new Map(real));
}

function undo() {
  const before = past.pop();
  if (!before) return;
  apply(before);
  const back = [...before.keys()].map((name) => byName.get(name)).filter(isShown);
  choose(back, back[0]);
}

function apply(changes) {
  for (const [name, label] of changes) {
    if (label === null) labels.delete(name); else labels.set(name, label);
    paintTile(byName.get(name));
    unsaved.set(name, label);
  }
  show();
  save();
}

// One request at a time; what is not saved stays in `unsaved` and is tried again.
const unsaved = new Map();
let isSaving = false;

async function save() {
  if (isSaving || !unsaved.size) return;
  if (!data.token) { tell("Not saved yet: download labels.json when you are done."); return; }
  isSaving = true;
  const batch = [...unsaved].slice(0, BATCH);
  try {
    await post("labels", {labels: Object.fromEntries(batch)});
    for (const [name, label] of batch) if (unsaved.get(name) === label) unsaved.delete(name);
    tell(unsaved.size ? "Saving\u2026" : "Saved.");
  } catch (error) {
    tell(`Not saved: ${error.message}`, true);
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
  isSaving = false;
  save();
}

async function post(path, content) {
  let answer;
  try {
    answer = await fetch(path, {method: "POST", body: JSON.stringify(content), headers: {"Content-Type": "application/json", "X-Token": data.token}});
  } catch {
    throw new Error(`the program has ended; start it again: ${data.command}`);
  }
  const reply = await answer.json();
  if (!answer.ok) throw new Error(reply.error);
  return reply;
}

async function finish() {
  if (!data.token) { download(); return; }
  try {
    await settle();
    const {folder, counts} = await post("export", {});
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    const left = crops.filter((crop) => !labels.has(crop.name)).length;
    tell(`${total} crops written to ${folder}${left ? `; ${left} not sorted are left out` : ""}.`);
  } catch (error) { tell(error.message, true); }
}

// What was pressed last counts too, and its "Saved." does not hide what finish() says.
async function settle() {
  while (isSaving || unsaved.size) {
    save();
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

function download() {
  const content = JSON.stringify({labels: Object.fromEntries([...labels].sort()), schema: 1}, null, 1);
  const link = make("a", "", {href: URL.createObjectURL(new Blob([`${content}\n`], {type: "application/json"})), download: "labels.json"});
  link.click();
  unsaved.clear();
  tell("Put labels.json into the folder of this page.");
}

function tell(text, isBad = false) {
  element("status").textContent = text;
  element("status").classList.toggle("bad", isBad);
}

function press(event) {
  const {key} = event;
  const isControl = event.ctrlKey || event.metaKey;
  const focused = document.activeElement;
  if (focused?.matches("select")) return;
  if (isControl && key === "a") choose(visible);
  else if (isControl && key === "z") undo();
  else if (isControl || event.altKey) return;
  else if (key >= "1" && key <= "9" && key.length === 1 && classes[key - 1]) assign(classes[key - 1]);
  else if (key === "0" || key === "Delete" || key === "Backspace") assign(discard);
  else if (key === "Enter" && !focused?.matches("button")) confirmChosen();
  else if (key === "u") undo();
  else if (key === "Escape") choose([]);
  else if (key.startsWith("Arrow")) {
    const to = neighbour(key);
    if (to && event.shiftKey && anchor) chooseRange(to);
    else if (to) { anchor = to; choose([to], to); }
  } else return;
  event.preventDefault();
}

element("groups").addEventListener("click", click);
element("filter").addEventListener("change", () => { choose([]); show(); });
element("order").addEventListener("change", () => { arrange(); show(); });
element("undo").addEventListener("click", undo);
element("finish").addEventListener("click", finish);
document.addEventListener("keydown", press);
window.addEventListener("beforeunload", (event) => { if (unsaved.size) event.preventDefault(); });
build();
