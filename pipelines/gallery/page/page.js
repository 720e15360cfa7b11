// The search page. All that it knows comes from the server that sent it; docs lists the requests.
"use strict";

const $ = (id) => document.getElementById(id);
const form = $("controls");
const WHOLE_FRAME = 0.75; // width over height from which an image is taken for a whole frame: people are narrower
const RETRY_MS = 2000;
const HEAT_WORDS = $("heat-words").textContent;

let gallery = null; // as /galleries describes it
let query = null; // {image: id} of the gallery, or {crop: base64 of WebP}; modality where the user has set it
let upload = null; // the chosen file as {blob, width, height, box}; width is null where the browser cannot show it
let answer = null; // of the last search
let shown = -1; // index of the result in the dialog
let latest = 0; // number of the last search that was sent
let marking = Promise.resolve(); // until all marks so far are sent

// --- requests -------------------------------------------------------------------------------------------------

/** What the server refused, or an empty message where there is no server. */
class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    waitForServer();
    throw new Refused("");
  }
  if (response.ok) return response.json();
  const detail = await response.json().then((body) => body.detail, () => response.statusText);
  throw new Refused(typeof detail === "string" ? detail : JSON.stringify(detail), response.status);
}

let waiting = null;

function waitForServer() {
  notice("gone", "bad", "The server does not answer. Start it again with", code(`msclnet serve ${gallery?.name ?? "GALLERY"}`),
    "This page goes on by itself.");
  waiting ??= setInterval(async () => {
    try {
      if (!(await fetch("health")).ok) return;
    } catch {
      return;
    }
    clearInterval(waiting);
    waiting = null;
    notice("gone");
    await loadGallery();
    if (query) search();
  }, RETRY_MS);
}

// --- small parts ----------------------------------------------------------------------------------------------

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const code = (text) => element("code", {}, text);

/** Show a line above the page, or take it away when there are no words. */
function notice(name, kind, ...words) {
  document.querySelector(`#notices [data-name=${name}]`)?.remove();
  if (!words.length) return;
  const line = element("p", { className: kind });
  line.dataset.name = name;
  words.forEach((word) => line.append(word, " "));
  $("notices").append(line);
}

function refuse(text) {
  $("refused").textContent = text;
  $("refused").hidden = !text;
}

const number = (value) => value.toLocaleString("en");
const percent = (value) => (value > 0 && value < 0.01 ? "< 1 %" : value < 1 && value > 0.99 ? "> 99 %" : `${Math.round(100 * value)} %`);
const time = (text) => (text ? text.replace("T", " ").replace(/\.\d+/, "") : "");
const fileName = (path) => path.split("/").pop();
const toBase64 = (address) => address.slice(address.indexOf(",") + 1);
const toBytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// --- the gallery ----------------------------------------------------------------------------------------------

async function loadGallery() {
  [gallery] = await ask("galleries");
  const model = gallery.model.address.replace(/^models:\/([^/]+)\/(\d+)$/, "$1 version $2");
  $("gallery").textContent = $("footer-gallery").textContent = gallery.name;
  $("size").textContent = `${number(gallery.images)} images`;
  $("footer-gallery").textContent = `Gallery ${gallery.name}, ${number(gallery.images)} images`;
  $("footer-model").textContent = `Model ${model} (${gallery.model.digest.slice(0, 12)})`;
  document.title = `Find a person · ${gallery.name}`;
  notice("newer", "warning", ...(gallery.newer ? [
    `The registry's champion is version ${gallery.newer}, newer than this gallery's model.`,
    code(`msclnet gallery rebuild ${gallery.name}`), "embeds the gallery with it."] : []));
  const elsewhere = gallery.fitted_elsewhere;
  $("distrust").hidden = !elsewhere;
  $("distrust").textContent = elsewhere && `The probabilities were fitted on the data set ${elsewhere}. Do not trust them for images of other `
    + "cameras or people. The order of the results does not depend on them.";
  document.body.classList.toggle("distrusted", Boolean(elsewhere));
  document.documentElement.style.setProperty("--person", `${gallery.model.width} / ${gallery.model.height}`);
  const chosen = new FormData(form).getAll("camera");
  $("cameras").replaceChildren($("cameras").firstElementChild, ...Object.keys(gallery.cameras).map((camera) => element("label", {},
    element("input", { type: "checkbox", name: "camera", value: camera, checked: chosen.includes(camera) }), element("span", {}, camera))));
  $("cameras").hidden = Object.keys(gallery.cameras).length < 2;
  await loadMarks();
  if (!query) welcome();
}

async function loadMarks() {
  const count = (await ask("marks")).length;
  $("mark-count").textContent = count ? `${number(count)} ${count === 1 ? "mark" : "marks"}` : "";
  $("exports").hidden = !count;
}

function welcome() {
  if (gallery.images) {
    words("Whom do you look for?", "Drop an image of one person on this page. The most similar images of the gallery appear here.");
  } else {
    words("This gallery is empty", "Put images in, then load this page again:", code(`msclnet gallery add ${gallery.name} images/`));
  }
}

function words(title, ...lines) {
  $("words").replaceChildren(element("strong", {}, title), ...lines.map((line) => (typeof line === "string" ? element("p", {}, line) : line)));
  $("grid").replaceChildren();
  $("results-head").hidden = true;
}

// --- the query ------------------------------------------------------------------------------------------------

/** Take a file as the query: at once if it shows one person, after a box if it is a whole frame. */
async function take(blob) {
  refuse("");
  const address = URL.createObjectURL(blob);
  const image = $("frame-image");
  image.src = address;
  const readable = await image.decode().then(() => true, () => false);
  upload = { blob, width: readable ? image.naturalWidth : null, height: readable ? image.naturalHeight : null, box: null };
  $("redraw").hidden = !readable;
  if (readable && upload.width > WHOLE_FRAME * upload.height) {
    openFrame();
  } else {
    searchUpload(null);
  }
}

function openFrame() {
  $("frame").hidden = false;
  $("results").hidden = true;
  const { width, height } = upload;
  setBox(upload.box ?? [width / 2 - height / 5, height / 10, (2 * height) / 5, (8 * height) / 10]);
  $("box-left").focus();
  $("frame").scrollIntoView({ block: "nearest" });
}

function closeFrame() {
  $("frame").hidden = true;
  $("results").hidden = false;
}

/** Draw the box, given in pixels of the image, clipped to it, and write its numbers. */
function setBox([left, top, width, height]) {
  left = Math.round(Math.min(Math.max(left, 0), upload.width - 1));
  top = Math.round(Math.min(Math.max(top, 0), upload.height - 1));
  width = Math.round(Math.min(Math.max(width, 1), upload.width - left));
  height = Math.round(Math.min(Math.max(height, 1), upload.height - top));
  upload.box = [left, top, width, height];
  ["left", "top", "width", "height"].forEach((name, place) => { $(`box-${name}`).value = upload.box[place]; });
  const share = (value, whole) => `${(100 * value) / whole}%`;
  Object.assign($("box").style, {
    left: share(left, upload.width), top: share(top, upload.height), width: share(width, upload.width), height: share(height, upload.height),
  });
  $("box").hidden = false;
}

function drawBox(start) {
  start.preventDefault();
  const stage = $("stage");
  const area = $("frame-image").getBoundingClientRect();
  const place = (event) => [((event.clientX - area.left) * upload.width) / area.width, ((event.clientY - area.top) * upload.height) / area.height];
  const [x, y] = place(start);
  stage.setPointerCapture(start.pointerId);
  stage.onpointermove = (event) => {
    const [toX, toY] = place(event).map((value, axis) => Math.min(Math.max(value, 0), axis ? upload.height : upload.width));
    setBox([Math.min(x, toX), Math.min(y, toY), Math.abs(toX - x), Math.abs(toY - y)]);
  };
  stage.onpointerup = stage.onpointercancel = () => { stage.onpointermove = null; };
}

function searchUpload(box) {
  upload.box = box;
  closeFrame();
  query = { blob: upload.blob, box };
  search({ remember: true });
}

function searchImage(id) {
  upload = null;
  $("redraw").hidden = true;
  closeFrame();
  query = { image: id };
  search({ remember: true });
}

// --- the search and its address -------------------------------------------------------------------------------

/** Filters as the server and the address name them. */
function filters() {
  const given = [...new FormData(form)].filter(([name, value]) => value && name !== "query_modality");
  return new URLSearchParams(given.filter(([name, value]) => name !== "top" || value !== "20"));
}

async function search({ remember = false } = {}) {
  refuse("");
  const turn = ++latest;
  const asked = query;
  const options = filters();
  if (asked.image !== undefined) options.set("image", asked.image);
  if (asked.box) options.set("box", asked.box.join(","));
  if (asked.modality) options.set("query_modality", asked.modality);
  $("grid").classList.add("stale");
  try {
    const body = asked.blob ?? (asked.crop ? toBytes(asked.crop) : null);
    const found = await ask(`search?${options}`, { method: "POST", body, headers: body ? { "Content-Type": "application/octet-stream" } : {} });
    if (turn !== latest) return false;
    answer = found;
    // From now on the query is the image as the network sees it: small enough for the address.
    if (asked.image === undefined) query = { crop: toBase64(answer.query.picture), modality: asked.modality };
    show();
    writeAddress(remember);
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (turn === latest) refuse(error.message);
    return false;
  } finally {
    $("grid").classList.remove("stale");
  }
}

function writeAddress(remember) {
  const parts = filters();
  if (query.modality) parts.set("query_modality", query.modality);
  if (query.image !== undefined) parts.set("image", query.image);
  if (query.crop) parts.set("crop", query.crop.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", ""));
  history[remember ? "pushState" : "replaceState"](null, "", `#${parts}`);
}

/** The part after # is never sent to a server: an uploaded query stays between this browser and the search. */
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const name of ["modality", "after", "before", "top"]) {
    form.elements[name].value = parts.get(name) ?? (name === "top" ? "20" : "");
  }
  form.elements.exact.checked = parts.has("exact");
  document.querySelectorAll("[name=camera]").forEach((each) => { each.checked = parts.getAll("camera").includes(each.value); });
  const modality = parts.get("query_modality") ?? undefined;
  if (parts.has("image")) query = { image: parts.get("image") };
  else if (parts.has("crop")) query = { crop: parts.get("crop").replaceAll("-", "+").replaceAll("_", "/"), modality };
  else query = null;
  if (query) search();
}

// --- results --------------------------------------------------------------------------------------------------

function show() {
  const { query: asked, results } = answer;
  $("query-image").src = asked.picture;
  $("query-image").hidden = false;
  $("query-modality").disabled = !asked.uploaded;
  form.elements.query_modality.value = asked.modality;
  $("modality-words").textContent = !asked.uploaded ? "As the gallery has it."
    : asked.warning || "Proposed from the pixels: three equal channels are infrared.";
  const filtered = ["camera", "after", "before"].some((name) => filters().has(name));
  $("clear").hidden = !filtered;
  $("footer-time").textContent = `Search ${Math.round(1000 * answer.seconds.search)} ms, embedding ${Math.round(1000 * answer.seconds.embed)} ms`;
  $("words").replaceChildren();
  $("results-head").hidden = false;
  if (!results.length) {
    if (!gallery.images) return welcome();
    const clear = filtered ? element("button", { type: "button", onclick: clearFilters }, "Clear the filters") : null;
    words("No image under these filters", `The gallery has ${number(gallery.images)} images; none of them fits the modality, cameras and times chosen here.`,
      ...(clear ? [clear] : []));
    return undefined;
  }
  $("summary").textContent = `The ${results.length} most similar ${{ visible: "visible ", infrared: "infrared ", any: "" }[answer.modality]}images`;
  $("grid").replaceChildren(...results.map((result, index) => element("li", {}, card(result, index))));
  return undefined;
}

function card(result, index) {
  const mark = result.mark === null ? null : element("span", { className: `mark ${result.mark}` }, result.mark === "same" ? "✓ same" : "✕ another");
  const chance = result.probability === null
    ? element("div", { className: "chance" }, element("span", {}, result.similarity.toFixed(3)), element("small", {}, "similarity"))
    : element("div", { className: "chance" }, element("span", { className: "percent" }, percent(result.probability)),
      element("small", {}, `similarity ${result.similarity.toFixed(3)}`));
  const meter = element("div", { className: "meter" }, element("i"));
  meter.firstChild.style.width = `${100 * Math.max(0, result.probability ?? result.similarity)}%`;
  const made = element("button", { type: "button", className: "card", onclick: () => openPair(index) },
    element("div", { className: "picture" },
      element("img", { src: result.picture, alt: "", loading: index < 20 ? "eager" : "lazy" }),
      element("span", { className: "rank" }, String(result.rank)), mark),
    element("div", { className: "body" }, chance, meter,
      element("span", {}, [result.camera, result.modality].filter(Boolean).join(" · ")),
      element("span", {}, time(result.time)),
      element("span", { className: "file", title: result.path }, fileName(result.path))));
  made.setAttribute("aria-label", describe(result));
  return made;
}

function describe(result) {
  return [
    `Rank ${result.rank}`,
    result.probability === null ? null : `probability ${percent(result.probability)}`,
    `similarity ${result.similarity.toFixed(3)}`,
    result.camera && `camera ${result.camera}`,
    time(result.time),
    fileName(result.path),
    result.mark && `marked as ${result.mark === "same" ? "the same" : "another"} person`,
  ].filter(Boolean).join(", ");
}

function clearFilters() {
  document.querySelectorAll("[name=camera]").forEach((each) => { each.checked = false; });
  form.elements.after.value = form.elements.before.value = "";
  search({ remember: true });
}

// --- one pair -------------------------------------------------------------------------------------------------

function openPair(index) {
  shown = index;
  const result = answer.results[index];
  $("pair-title").textContent = `Result ${result.rank} of ${answer.results.length}`;
  $("pair-query").src = answer.query.picture;
  $("pair-result").src = result.picture;
  const main = result.probability === null ? result.similarity.toFixed(3) : percent(result.probability);
  const small = result.probability === null ? "cosine similarity" : `probability of the same person; similarity ${result.similarity.toFixed(3)}`;
  $("score").replaceChildren(element("span", { className: result.probability === null ? "" : "percent" }, main), element("small", {}, small));
  const facts = { Camera: result.camera, Time: time(result.time), Modality: result.modality, Identity: result.identity, File: result.path, ...result.others };
  $("facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== null && value !== "").flatMap(
    ([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
  $("previous").disabled = index === 0;
  $("next").disabled = index === answer.results.length - 1;
  $("mark-words").textContent = "";
  showMark();
  loadHeat();
  if (!$("pair").open) $("pair").showModal();
}

function showMark() {
  const { mark } = answer.results[shown];
  $("same").setAttribute("aria-pressed", mark === "same");
  $("another").setAttribute("aria-pressed", mark === "another");
}

/** The server draws both images under their heat in one picture; each side shows its half. */
async function loadHeat({ again = true } = {}) {
  const images = document.querySelectorAll(".heat");
  images.forEach((each) => { each.hidden = true; });
  $("heat-words").textContent = HEAT_WORDS;
  if (!$("show-heat").checked) return;
  const [turn, index] = [latest, shown];
  const picture = new Image();
  picture.src = `pairs/${answer.query.id}/${answer.results[index].id}/heatmap`;
  try {
    await picture.decode();
  } catch {
    // A server that was started again does not know an uploaded query: the search sends it once more.
    if (again && await search() && index === shown) loadHeat({ again: false });
    else $("heat-words").textContent = "The server could not draw the heat map of this pair.";
    return;
  }
  if (turn !== latest || index !== shown || !$("show-heat").checked) return;
  images.forEach((each) => {
    each.src = picture.src;
    each.hidden = false;
  });
}

/** Set a mark, or take it away where it is set already; one after the other. */
function mark(wanted) {
  const index = shown;
  marking = marking.then(() => sendMark(index, wanted));
}

async function sendMark(index, wanted, { again = true } = {}) {
  const result = answer.results[index];
  const value = result.mark === wanted ? null : wanted;
  let said = value === null ? "The mark is removed." : "The mark is kept in the gallery.";
  try {
    await ask("marks", { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query: answer.query.id, image: result.id, mark: value }) });
    result.mark = value;
    $("grid").children[index].replaceChildren(card(result, index));
    loadMarks();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (again && error.status === 404 && await search()) return sendMark(index, wanted, { again: false });
    said = error.message;
  }
  if (index === shown) {
    $("mark-words").textContent = said;
    showMark();
  }
  return undefined;
}

function closePair() {
  $("pair").close();
}

function step(by) {
  if (answer.results[shown + by]) openPair(shown + by);
}

// --- events ---------------------------------------------------------------------------------------------------

function takeFirst(files) {
  const [file] = [...files].filter((each) => each instanceof File);
  if (file) take(file);
}

$("choose").onclick = () => $("file").click();
$("file").onchange = () => { takeFirst($("file").files); $("file").value = ""; };
$("redraw").onclick = openFrame;
$("use-box").onclick = () => searchUpload(upload.box);
$("use-whole").onclick = () => searchUpload(null);
$("clear").onclick = clearFilters;
$("stage").onpointerdown = drawBox;
$("numbers").onchange = () => setBox(["left", "top", "width", "height"].map((name) => Number($(`box-${name}`).value)));
$("close").onclick = closePair;
$("previous").onclick = () => step(-1);
$("next").onclick = () => step(1);
$("same").onclick = () => mark("same");
$("another").onclick = () => mark("another");
$("show-heat").onchange = () => loadHeat();
$("search-this").onclick = () => { closePair(); searchImage(answer.results[shown].id); window.scrollTo(0, 0); };
$("pair").onclose = () => $("grid").children[shown]?.firstChild.focus();
$("pair").onclick = (event) => { if (event.target === $("pair")) closePair(); };
$("pair").onkeydown = (event) => {
  const act = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), s: () => mark("same"), a: () => mark("another") }[event.key];
  if (act && !event.ctrlKey && !event.metaKey && !event.altKey) act();
};
form.onsubmit = (event) => event.preventDefault();
form.onchange = (event) => {
  if (event.target === $("file") || !query) return;
  if (event.target.name === "query_modality") query.modality = event.target.value;
  search({ remember: true });
};
window.onpopstate = readAddress;
document.addEventListener("paste", (event) => takeFirst(event.clipboardData.files));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  takeFirst(event.dataTransfer.files);
});

$("filters").open = matchMedia("(min-width: 861px)").matches;
loadGallery().then(() => { if (location.hash) readAddress(); }, (error) => { if (!(error instanceof Refused)) throw error; });
