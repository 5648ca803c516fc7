// What the page asks of the server it came from, and of nobody else.

/** The server's answer as JSON; a sentence for the person where it refuses. */
async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, { method, body });
  } catch {
    throw new Error("fairveil does not answer. If it was stopped, start it again and reload this page.");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.problem || "fairveil could not do this: reload the page.");
}

/** A new page, as the server knows it: its address, and what it offers and takes. */
export async function openTab() {
  const { tab, ...offer } = await ask("POST", "/tabs");
  const home = `/tabs/${tab}`;
  return {
    ...offer,
    async upload(file) {
      try {
        return await ask("PUT", `${home}/photos?name=${encodeURIComponent(file.name)}`, file);
      } catch (problem) {
        await file.slice(0, 1).arrayBuffer().catch(() => {
          problem = new Error(`${file.name} cannot be read. It may have been moved or removed.`);
        });
        throw problem;
      }
    },
    veil: (strength, faces, frames) => ask("POST", `${home}/veil`, JSON.stringify({ strength, faces, frames })),
    stop: () => ask("POST", `${home}/stop`),
    remove: (photo) => ask("DELETE", `${home}/photos/${photo}`),
    picture: (photo, run, name) => `${home}/photos/${photo}/${run}/${name}.jpg`,
    file: (photo, run) => `${home}/photos/${photo}/${run}/file`,
    receipt: (photo, run) => `${home}/photos/${photo}/${run}/receipt`,
    zip: `${home}/all.zip`,
    leave: () => navigator.sendBeacon(`${home}/close`),
    listen(onNews, onSilence) {
      const news = new EventSource(`${home}/news`);
      const photos = new Map();
      news.onopen = () => photos.clear(); // all of them are told anew
      news.onmessage = (message) => {
        const state = JSON.parse(message.data);
        for (const [id, photo] of Object.entries(state.photos)) {
          if (photo) photos.set(id, photo);
          else photos.delete(id);
        }
        onNews({ ...state, photos: [...photos.values()] });
      };
      news.onerror = () => onSilence(news.readyState === EventSource.CLOSED);
    },
  };
}
