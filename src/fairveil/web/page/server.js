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
    upload: (file) => ask("PUT", `${home}/photos?name=${encodeURIComponent(file.name)}`, file),
    veil: (strength, faces) => ask("POST", `${home}/veil`, JSON.stringify({ strength, faces })),
    stop: () => ask("POST", `${home}/stop`),
    remove: (photo) => ask("DELETE", `${home}/photos/${photo}`),
    picture: (photo, run, name) => `${home}/photos/${photo}/${run}/${name}.jpg`,
    file: (photo, run) => `${home}/photos/${photo}/${run}/file`,
    receipt: (photo, run) => `${home}/photos/${photo}/${run}/receipt`,
    zip: `${home}/all.zip`,
    leave: () => navigator.sendBeacon(`${home}/close`),
    listen(onNews, onSilence) {
      const news = new EventSource(`${home}/news`);
      news.onmessage = (message) => onNews(JSON.parse(message.data));
      news.onerror = () => onSilence(news.readyState === EventSource.CLOSED);
    },
  };
}
