// Pictures that wait in the question box outlive the page: the browser keeps them until their tab is loaded anew, or a day.
(() => {
  const DAY_MILLISECONDS = 24 * 60 * 60 * 1000;
  const tab = sessionStorage.getItem("maya-tab") ?? `${Date.now()} ${Math.random()}`;
  sessionStorage.setItem("maya-tab", tab);

  const told = (asked) => new Promise((done, failed) => {
    [asked.onsuccess, asked.onerror] = [() => done(asked.result), () => failed(asked.error)];
  });
  const opened = (async () => {
    const asked = indexedDB.open("maya");
    asked.onupgradeneeded = () => asked.result.createObjectStore("unsent");
    return told(asked);
  })();
  const store = async () => (await opened).transaction("unsent", "readwrite").objectStore("unsent");

  // Those that were there before, once; and no more of tabs that are closed.
  async function recall() {
    const before = await told((await store()).get(tab));
    const old = (await store()).openCursor();
    old.onsuccess = () => {
      if (!old.result) return;
      if (old.result.value.at < Date.now() - DAY_MILLISECONDS) old.result.delete();
      old.result.continue();
    };
    return before?.pictures ?? [];
  }
  // Where the browser keeps nothing, a page loaded anew has an empty box.
  let keeping = recall().catch(() => []);
  window.mayaUnsentPictures = keeping;
  // pictures: promises of files; where none of them can be read, as of a page that is being left, what is kept stays
  window.mayaKeepPictures = (pictures) => {
    keeping = keeping.then(async () => {
      const there = (await Promise.all(pictures)).filter((one) => one instanceof File);
      const kept = await store();
      if (there.length) await told(kept.put({ at: Date.now(), pictures: there }, tab));
      else if (!pictures.length) await told(kept.delete(tab));
    }).catch(() => {});
  };
})();
