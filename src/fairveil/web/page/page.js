// The page: takes photos, says what is to be done with them, and follows how far they are.

import { Card, count } from "/page/cards.js";
import { openTab } from "/page/server.js";

const at = (id) => document.getElementById(id);
const cards = new Map();
let server;
let latest = { photos: [], working: 0 };
let uploads = 0;

function strength() {
  return document.querySelector("[name=strength]:checked").value;
}

function say(words) {
  if (at("said").textContent !== words) at("said").textContent = words;
}

function complain(problem) {
  const line = document.createElement("li");
  line.textContent = problem.message ?? problem;
  at("problems").append(line);
}

function trouble(words) {
  at("trouble").textContent = words;
  at("trouble").hidden = !words;
}

async function add(files) {
  at("problems").replaceChildren();
  const fitting = files.filter((file) => file.size <= server.limits.photo_bytes);
  for (const file of files.filter((each) => !fitting.includes(each))) {
    complain(`${file.name} is larger than ${server.limits.photo_bytes / 1e6} MB, the limit: make it smaller first.`);
  }
  const over = fitting.splice(Math.max(0, server.limits.photos - cards.size - uploads));
  if (over.length) {
    const what = over.length === 1 ? `${over[0].name} was` : `${over.length} photos were`;
    complain(`${what} left out: ${server.limits.photos} fit on a page. Download what is done, remove it, and add the rest.`);
  }
  uploads += fitting.length;
  for (const file of fitting) {
    refresh();
    await server.upload(file).catch(complain); // one after the other, so that a phone's memory holds only one
    uploads -= 1;
  }
  refresh();
}

function wanted() {
  return [...cards.values()].filter((card) => card.wants(strength()));
}

async function veil() {
  if (at("veil").getAttribute("aria-disabled") === "true") return;
  at("problems").replaceChildren();
  const faces = Object.fromEntries(wanted().map((card) => [card.photo.id, [...card.chosen]]));
  await server.veil(strength(), faces).catch(complain);
}

function follow(news) {
  trouble("");
  const finished = latest.working && !news.working;
  latest = news;
  const there = new Set(news.photos.map((photo) => photo.id));
  for (const [id, card] of cards) {
    if (!there.has(id)) {
      card.element.remove();
      cards.delete(id);
    }
  }
  for (const photo of news.photos) {
    if (!cards.has(photo.id)) {
      cards.set(photo.id, new Card(photo, server, refresh));
      at("photos").append(cards.get(photo.id).element);
    }
    cards.get(photo.id).update(photo);
  }
  refresh();
  if (finished) {
    const done = news.photos.filter((photo) => photo.stage === "done").length;
    say(`${count(done, "photo")} done.`);
    document.title = "Done: fairveil";
  }
}

function refresh() {
  for (const part of ["chosen", "doing"]) at(part).hidden = !cards.size;
  at("add").textContent = uploads ? `Adding ${count(uploads, "photo")} …` : "Choose photos";
  at("key").hidden = !latest.photos.some((photo) => photo.result?.chosen.length);
  const looking = uploads > 0 || latest.photos.some((photo) => photo.stage === "looking");
  const chosen = wanted();
  const faces = chosen.reduce((sum, card) => sum + card.chosen.size, 0);
  at("veil").textContent = latest.working
    ? "Veiling …"
    : faces
      ? `Veil ${count(faces, "face")} in ${count(chosen.filter((card) => card.chosen.size).length, "photo")}`
      : chosen.length
        ? `Take location and the like out of ${count(chosen.length, "photo")}`
        : looking
          ? "Looking for faces …"
          : "Nothing left to veil";
  // Not `disabled`, which would take the keyboard's place away.
  at("veil").setAttribute("aria-disabled", looking || latest.working > 0 || !chosen.length);
  for (const choice of document.querySelectorAll("[name=strength]")) choice.disabled = latest.working > 0;
  if (!latest.working && document.activeElement === at("stop")) at("veil").focus();
  at("stop").hidden = at("progress").hidden = !latest.working;
  at("zip").hidden = latest.photos.filter((photo) => photo.result).length < 2 || latest.working > 0;
  at("veil").hidden = !(latest.working || looking || chosen.length) && document.activeElement !== at("veil");
  at("dock").hidden = !cards.size || (at("veil").hidden && at("zip").hidden);
  if (latest.working) {
    at("progress").querySelector("progress").value = latest.progress;
    at("eta").textContent = `${count(latest.working, "photo")} to go, ${timeLeft(latest.seconds_left)}.`;
    say(`Veiling ${count(latest.working, "photo")}.`);
    document.title = `${Math.round(100 * latest.progress)} % – fairveil`;
  }
}

function timeLeft(seconds) {
  if (seconds === null) return "reckoning how long it takes";
  if (seconds < 10) return "a few seconds left";
  if (seconds < 90) return `about ${Math.ceil(seconds / 5) * 5} seconds left`;
  return `about ${Math.ceil(seconds / 60)} minutes left`;
}

function listenForFiles() {
  at("files").onchange = () => {
    const files = [...at("files").files];
    at("files").value = ""; // so that the same photo can be chosen again
    add(files);
  };
  const drop = at("drop");
  // Anywhere on the page, since a photo that misses the frame would otherwise replace the page.
  for (const kind of ["dragover", "drop", "dragleave"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") add([...event.dataTransfer.files]);
    });
  }
}

async function start() {
  try {
    server = await openTab();
  } catch (problem) {
    trouble(problem.message);
    at("files").disabled = true;
    return;
  }
  const { limits } = server;
  at("bounds").textContent =
    `JPEG, PNG, WebP, TIFF, HEIC or AVIF; up to ${limits.photos} photos of ${limits.photo_bytes / 1e6} MB and ` +
    `${limits.photo_pixels / 1e6} million pixels each`;
  at("home").textContent = server.at_home
    ? "They stay on this computer: nothing is sent anywhere, and closing this page removes what it holds."
    : "They go to the computer that runs fairveil, unencrypted, and nowhere else; closing this page removes them there.";
  for (const label of document.querySelectorAll("[data-strength]")) label.hidden = !server.strengths.includes(label.dataset.strength);
  document.querySelector(`[value=${server.strengths.includes("medium") ? "medium" : server.strengths[0]}]`).checked = true;
  listenForFiles();
  at("strengths").onchange = refresh;
  at("veil").onclick = veil;
  at("stop").onclick = () => server.stop().catch(complain);
  at("zip").href = server.zip;
  server.listen(follow, (forgotten) =>
    trouble(
      forgotten
        ? "fairveil no longer knows this page. Reload it, and add the photos again."
        : "fairveil does not answer. If it was stopped, start it again and reload this page.",
    ),
  );
  addEventListener("beforeunload", (event) => {
    if (cards.size) event.preventDefault(); // the browser asks whether to leave
  });
  addEventListener("pagehide", server.leave);
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

start();
