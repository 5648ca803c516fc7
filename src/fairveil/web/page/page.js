// The page: takes photos, says what is to be done with them, and follows how far they are.

import { Card, count } from "/page/cards.js";
import { openTab } from "/page/server.js";

const at = (id) => document.getElementById(id);
const title = document.title;
const cards = new Map();
const arrived = new Set(); // ids of photos whose faces are looked for, or of which nothing was said yet
let server;
let latest = { photos: [], working: 0, version: 0 };
let uploads = 0;
let awaited = 0; // the version of the news from which on what was asked for is under way
let run = null; // which result each photo had before it was veiled
let lost = false; // whether the server is silent

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
  refresh();
}

function dismiss() {
  at("problems").replaceChildren();
  refresh();
}

function trouble(words) {
  lost = Boolean(words);
  at("trouble").textContent = words;
  at("trouble").hidden = !words;
  refresh();
}

async function add(files) {
  if (!uploads) dismiss();
  const fitting = files.filter((file) => file.size <= server.limits.photo_bytes);
  for (const file of files.filter((each) => !fitting.includes(each))) {
    complain(server.too_large.replace("{name}", () => file.name));
  }
  const over = fitting.splice(Math.max(0, server.limits.photos - cards.size - uploads));
  if (over.length) complain(server.too_many.replace("{name}", () => (over.length === 1 ? over[0].name : `${over.length} photos`)));
  uploads += fitting.length;
  for (const file of fitting) {
    refresh();
    try {
      arrived.add((await server.upload(file)).photo); // one after the other, so that a phone's memory holds only one
    } catch (problem) {
      complain(problem);
    }
    uploads -= 1;
  }
  refresh();
}

function wanted() {
  return [...cards.values()].filter((card) => card.wants(strength()));
}

async function veil() {
  if (at("veil").getAttribute("aria-disabled") === "true") return;
  dismiss();
  const faces = Object.fromEntries(wanted().map((card) => [card.photo.id, [...card.chosen]]));
  const frames = Object.fromEntries(wanted().map((card) => [card.photo.id, card.frames]));
  run = new Map(wanted().map(({ photo }) => [photo.id, photo.result?.run]));
  awaited = Infinity;
  refresh();
  try {
    awaited = (await server.veil(strength(), faces, frames)).version;
  } catch (problem) {
    awaited = 0;
    run = null;
    complain(problem);
  }
}

/** Whether photos are being veiled, or are about to be. */
function busy() {
  return latest.working > 0 || latest.version < awaited;
}

function follow(news) {
  latest = news;
  const there = new Set(news.photos.map((photo) => photo.id));
  for (const [id, card] of cards) {
    if (!there.has(id)) {
      const next = card.element.contains(document.activeElement) && (card.element.nextElementSibling?.querySelector("button") ?? at("files"));
      card.element.remove();
      if (next) next.focus();
      cards.delete(id);
      arrived.delete(id);
    }
  }
  for (const photo of news.photos) {
    if (!cards.has(photo.id)) {
      cards.set(photo.id, new Card(photo, server, refresh, complain));
      at("photos").append(cards.get(photo.id).element);
    }
    cards.get(photo.id).update(photo);
  }
  trouble("");
  if (run && !busy()) sayHowItEnded();
}

function sayHowItEnded() {
  const ended = latest.photos.filter((photo) => run.has(photo.id));
  const done = ended.filter((photo) => photo.result?.run !== run.get(photo.id)).length;
  const failed = ended.filter((photo) => photo.problem).length;
  const stopped = ended.length - done - failed;
  say(
    [
      done && `${count(done, "photo")} done.`,
      failed && `${count(failed, "photo")} not done: the reason stands beside it.`,
      stopped && `Stopped: ${count(stopped, "photo")} left as before.`,
    ]
      .filter(Boolean)
      .join(" "),
  );
  if (done && document.hidden) document.title = "Done: fairveil";
  run = null;
}

function sayWhatArrived() {
  const photos = latest.photos.filter((photo) => arrived.has(photo.id));
  const refused = photos.filter((photo) => photo.stage === "refused").length;
  const faces = photos.reduce((sum, photo) => sum + photo.faces.length, 0);
  say(`${count(photos.length - refused, "photo")} added, ${count(faces, "face")} found.${refused ? ` ${count(refused, "file")} refused.` : ""}`);
  arrived.clear();
}

function refresh() {
  for (const part of ["chosen", "doing"]) at(part).hidden = !cards.size;
  at("add").textContent = uploads ? `Adding ${count(uploads, "photo")} …` : "Choose photos";
  at("key").hidden = !latest.photos.some((photo) => photo.result?.chosen.length);
  const looking = uploads > 0 || [...arrived].some((id) => (cards.get(id)?.photo.stage ?? "looking") === "looking");
  const chosen = wanted();
  const faces = chosen.reduce((sum, card) => sum + card.count, 0);
  at("veil").textContent = busy()
    ? "Veiling …"
    : faces
      ? `Veil ${count(faces, "face")} in ${count(chosen.filter((card) => card.count).length, "photo")}`
      : chosen.length
        ? `Take location and the like out of ${count(chosen.length, "photo")}`
        : looking
          ? "Looking for faces …"
          : "Nothing left to veil";
  // Not `disabled`, which would take the keyboard's place away.
  at("veil").setAttribute("aria-disabled", looking || busy() || lost || !chosen.length);
  for (const choice of document.querySelectorAll("[name=strength]")) choice.disabled = busy();
  const working = latest.working > 0 && !lost;
  if (!working && document.activeElement === at("stop")) at("veil").focus();
  at("stop").hidden = at("progress").hidden = !working;
  at("zip").hidden = latest.photos.filter((photo) => photo.result).length < 2 || busy() || lost;
  at("veil").hidden = !(busy() || looking || chosen.length) && document.activeElement !== at("veil");
  at("dismiss").hidden = !at("problems").children.length;
  at("dock").hidden = ["veil", "zip", "dismiss", "trouble"].every((part) => at(part).hidden);
  if (arrived.size && !looking) sayWhatArrived();
  document.title = title;
  if (working) {
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

function drop({ files, items }) {
  const folders = new Set([...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry?.isDirectory).map((entry) => entry.name));
  add([...files].filter((file) => !folders.has(file.name)));
  for (const name of folders) complain(`${name} is a folder: open it, and drop the photos that lie in it.`);
}

function listenForFiles() {
  at("files").onchange = () => {
    const files = [...at("files").files];
    at("files").value = ""; // so that the same photo can be chosen again
    add(files);
  };
  const frame = at("drop");
  // Anywhere on the page, since a photo that misses the frame would otherwise replace the page.
  for (const kind of ["dragover", "drop", "dragleave"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      frame.classList.toggle("over", kind === "dragover");
      if (kind === "drop") drop(event.dataTransfer);
    });
  }
}

async function start() {
  try {
    if (!navigator.cookieEnabled) throw new Error("fairveil needs a cookie to keep your photos apart from others': allow it, and reload.");
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
  at("smallest").textContent = server.smallest_face;
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
  at("dismiss").onclick = dismiss;
  // What has the keyboard is scrolled to where the dock does not lie over it.
  new ResizeObserver(() => document.documentElement.style.setProperty("--dock", `${at("dock").offsetHeight}px`)).observe(at("dock"));
  addEventListener("visibilitychange", refresh); // the title says "Done" to who was away
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
