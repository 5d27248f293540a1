// By keyboard alone: a key for what is done most, and a sheet of them all.
(() => {
  const press = (selector) => document.querySelector(selector)?.click();
  const isOpen = () => document.querySelector("dialog[open], [popover]:popover-open, .maya-menu-open");
  // What each does, by its name among the words; keys are known by their place, on whatever keyboard.
  const SHORTCUTS = {
    "maya-key-new": { code: "KeyN", shown: ["Alt", "N"], act: () => press("#maya-new") },
    "maya-key-search": { code: "KeyK", shown: ["Alt", "K"], act: search },
    "maya-key-copy": { code: "KeyC", shown: ["Alt", "C"], act: () => [...document.querySelectorAll("#maya-conversation .message-buttons-left")].at(-1)?.querySelector("button").click() },
    "maya-key-stop": { shown: ["Esc"] },
    "maya-key-sheet": { shown: ["?"] },
  };

  function search() {
    if (document.getElementById("maya-menu").checkVisibility()) window.mayaMenu(true); // it is in there
    document.querySelector("#maya-search :is(input, textarea)").focus();
  }

  window.mayaKeys = () => {
    if (isOpen()) return;
    const sheet = document.createElement("dialog"), title = document.createElement("h2"), close = document.createElement("button");
    const list = document.createElement("dl");
    sheet.id = "maya-sheet";
    title.textContent = sheet.ariaLabel = window.mayaWord("maya-sheet");
    close.textContent = window.mayaWord("maya-close-large");
    for (const [name, { shown }] of Object.entries(SHORTCUTS)) {
      const what = document.createElement("dt"), keys = document.createElement("dd");
      what.textContent = window.mayaWord(name);
      keys.append(...shown.map((key) => Object.assign(document.createElement("kbd"), { textContent: key })));
      list.append(what, keys);
    }
    sheet.append(title, list, close);
    close.addEventListener("click", () => sheet.close());
    sheet.addEventListener("close", () => sheet.remove());
    document.body.append(sheet);
    sheet.showModal();
  };

  document.addEventListener("keydown", (event) => {
    if (!document.getElementById("maya-question") || event.isComposing || event.ctrlKey || event.metaKey) return;
    const isWriting = event.target.matches("input:not([type=radio], [type=checkbox]), textarea");
    const shortcut = event.altKey && Object.values(SHORTCUTS).find(({ code }) => code === event.code);
    if (shortcut && !isOpen()) shortcut.act();
    else if (event.key === "Escape" && !isOpen() && !event.target.closest(".maya-editor")) return press(".maya-busy #maya-question .stop-button");
    else if ("?؟？".includes(event.key) && !isWriting) window.mayaKeys();
    else return;
    event.preventDefault();
  });
})();
