// What the page does in the browser: directions and languages of texts, labels in the chosen language, theme, menu.
(() => {
  // gradio words its own parts by the browser's language; ours are said in the chosen one, from their English names.
  for (const [name, value] of [["language", "en"], ["languages", ["en"]]]) {
    Object.defineProperty(navigator, name, { get: () => value });
  }
  const RIGHT_TO_LEFT = new Set(["ar", "ur"]);
  const LETTERS = /\p{L}/gu;
  const ARABIC_SCRIPT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;
  const SCRIPTS = { ja: /[\u3040-\u30ff]/, hi: /[\u0900-\u097f]/, bn: /[\u0980-\u09ff]/, ru: /[\u0400-\u04ff]/ };
  const HAN = /\p{Script=Han}/u;
  const URDU_ONLY = /[\u0679\u0688\u0691\u06ba\u06be\u06c1\u06d2\u06cc\u06a9\u06af\u0686\u067e\u06d4]/;
  const ARABIC_ONLY = /[\u0643\u064a\u0629\u0649\u0625]/;
  const TEXTS = "#maya-conversation :is(p, ul, ol, h1, h2, h3, h4, blockquote, table, .message), #maya-list span > span, #maya-undo bdi";
  const FIELDS = ":is(#maya-question, #maya-conversation, #maya-title, #maya-search, #maya-translation) :is(input:not([type=file]), textarea)";

  // That of most letters, or of the first where neither has more.
  function directionOf(letters) {
    const ofArabic = letters.filter((letter) => ARABIC_SCRIPT.test(letter)).length, others = letters.length - ofArabic;
    return ofArabic > others || (ofArabic === others && ARABIC_SCRIPT.test(letters[0])) ? "rtl" : "ltr";
  }

  // A word of letters that both write belongs to the page's language.
  function languageOf(text, direction) {
    const isUrdu = URDU_ONLY.test(text) || (document.documentElement.lang === "ur" && !ARABIC_ONLY.test(text));
    if (direction === "rtl") return isUrdu ? "ur" : "ar";
    const own = Object.keys(SCRIPTS).find((code) => SCRIPTS[code].test(text));
    return own ?? (HAN.test(text) && document.documentElement.lang !== "ja" ? "zh" : "");
  }

  function mark(element) {
    if (element.closest(".placeholder-content")) return; // the page's own words
    const text = element.value ?? element.textContent, letters = text.match(LETTERS);
    if (!letters) return void (element.matches(FIELDS) && asThePage(element));
    const direction = directionOf(letters);
    if (element.dir !== direction) element.dir = direction;
    const language = languageOf(text, direction) || (document.documentElement.lang === "ja" ? "ja" : "und");
    if (element.lang !== language) element.lang = language;
  }

  function asThePage(field) {
    if (field.dir !== document.documentElement.dir) field.dir = document.documentElement.dir;
    field.removeAttribute("lang");
  }
  document.addEventListener("input", (event) => { if (event.target.matches(FIELDS)) mark(event.target); }, true);

  // What a person typed: the server refers to each of its signs by number, so that it is shown as it was typed.
  const typedOf = (text) => text.replace(/&#(\d+);/g, (_, code) => (code === "160" ? " " : String.fromCodePoint(code)));

  // What the server calls things in the chosen language, by what gradio calls them.
  function worded(english) {
    const labels = window.mayaLabels[document.documentElement.lang] ?? {};
    const [, named] = english.match(/^(?:number input|range slider) for (.*)$/s) ?? [];
    if (named) return named;
    const [, number, asks] = english.match(/^Select example (\d+): (.*)$/s) ?? [];
    if (number) return `${labels.example} ${number}: ${asks}`;
    if (/^\d+\.png$/.test(english)) return labels.picture; // the examples' files
    const [, who, rest] = english.match(/^(user|bot)'s message: (.*)$/s) ?? [];
    if (!who) return labels[english];
    const said = rest.startsWith("a component of type") ? labels.picture : who === "user" ? typedOf(rest) : rest;
    return `${who === "user" ? labels.user : "Maya"}: ${said}`;
  }

  window.mayaWord = worded;

  function label(element, name) {
    const shown = element.getAttribute(name);
    const memory = (element.mayaWords ??= {});
    const english = memory[name] && memory[name].said === shown ? memory[name].english : shown;
    const said = worded(english);
    if (said === undefined) return;
    memory[name] = { english, said };
    if (shown !== said) element.setAttribute(name, said);
  }

  function word(node) {
    const shown = node.textContent.trim();
    const english = node.mayaSaid === shown ? node.mayaEnglish : shown;
    const said = worded(english);
    if (said === undefined) return;
    [node.mayaEnglish, node.mayaSaid] = [english, said];
    if (shown !== said) node.textContent = said;
  }

  function labelAll() {
    addButtons();
    // What gradio leaves without a name, or names without saying what it is.
    document.querySelectorAll("#maya-conversation [data-testid][aria-label]:not([role])").forEach((one) => { one.role = "group"; });
    document.querySelectorAll("#maya-conversation .examples[role=list]").forEach((one) => { one.role = "group"; }); // of buttons
    document.querySelectorAll("#maya-conversation button:has(img):not([aria-label])").forEach((one) => { one.ariaLabel = "Fullscreen"; });
    for (const id of ["maya-menu", "maya-close"]) document.getElementById(id)?.setAttribute("aria-label", worded(id) ?? "");
    for (const name of ["aria-label", "title", "alt"]) document.querySelectorAll(`[${name}]`).forEach((one) => label(one, name));
    const texts = document.querySelector("#maya-camera");
    if (!texts) return;
    const walker = document.createTreeWalker(texts, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) if (walker.currentNode.textContent.trim()) word(walker.currentNode);
  }

  // What is said may bring HTML along, which has no effect outside of its place (style.css contains it).
  const REACHING = ["style", "id", "name", "accesskey", "autofocus"];
  const FOREIGN = REACHING.map((name) => `#maya-conversation .message .prose [${name}]`).join();
  const keepInside = () => document.querySelectorAll(FOREIGN).forEach((one) => REACHING.forEach((name) => one.removeAttribute(name)));

  // What the last answer waits for, or took, stands below it: a part of gradio's that is moved there, and opened or closed as
  // the one before.
  let figures = null, areFiguresOpen = false;
  function placeFigures() {
    figures = document.getElementById("maya-figures") ?? figures;
    const talk = document.querySelector("#maya-conversation .message-wrap");
    if (talk && figures && figures.parentElement !== talk) talk.append(figures);
    figures?.querySelectorAll("details").forEach((one) => { one.open = areFiguresOpen; });
  }
  document.addEventListener("click", (event) => {
    const details = event.target.closest("#maya-figures summary")?.parentElement;
    if (details) areFiguresOpen = !details.open;
  });

  function markAll() {
    placeFigures();
    keepInside();
    keepChosen();
    showNotice();
    // Only a hint for the file picker: what a file is, the server sees by its content, and says it in the chosen language.
    for (const [place, kinds] of [["#maya-question", "image/*"], ["#maya-side >", ".json"]])
      document.querySelectorAll(`${place} input[type=file]`).forEach((input) => { input.accept = kinds; });
    document.querySelectorAll(`${TEXTS}, ${FIELDS}`).forEach(mark);
    labelAll();
    const direction = document.documentElement.dir || "ltr";
    document.querySelectorAll(".block[dir], .block [data-testid][dir], textarea, input").forEach((block) => {
      const keptAsItIs = `.message, #maya-list *, ${FIELDS}`;
      if (block.dir !== direction && !block.closest(keptAsItIs)) block.dir = direction;
    });
  }

  // What has the keyboard may go away: a question that was edited, a conversation with its buttons. Then the box has it,
  // except where that would bring up a keyboard of glass.
  let held = null;
  document.addEventListener("focusin", (event) => { held = event.target; });
  const isThere = (one) => one.isConnected && one.checkVisibility();
  document.addEventListener("focusout", ({ target }) => {
    setTimeout(() => { if (held === target && isThere(target)) held = null; }); // what goes away is still there now
  });
  function holdFocus() {
    if (!held || isThere(held)) return;
    held = null;
    if (document.activeElement === document.body && matchMedia("(hover: hover)").matches) within("textarea")?.focus({ preventScroll: true });
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; markAll(); holdFocus(); writeUnsent(); });
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  window.mayaSetLanguage = (code) => {
    document.documentElement.lang = code;
    document.documentElement.dir = RIGHT_TO_LEFT.has(code) ? "rtl" : "ltr";
    markAll();
  };

  // The question box. Only the browser knows what is in it at this moment: what the server sent would come over what was
  // typed in the meantime. gradio takes an update without a value as no change.
  const UNCHANGED = { __type__: "update" };
  const STOP_MILLISECONDS = 500; // between two times that a stop is said
  const LOST_MILLISECONDS = 5000; // after which gradio will not ask for what was sent: it has given up the connection
  const isEmpty = (typed) => !typed.text && !typed.files.length;
  const within = (selector) => document.querySelector(`#maya-question ${selector}`);
  window.mayaEmpty = () => ({ text: "", files: [] });

  function write(text) {
    const box = within("textarea");
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // From the moment that a question is sent until the last of its answer is drawn, the box has a button to stop it in place of
  // the one to send, and takes no other question. Both ends of an answer are those of gradio's event: what the server tells
  // on the way comes late to a slow browser, and of two events not in its order.
  let sending = null; // what gradio has not begun to ask yet
  let answers = 0, begun = 0; // that are coming, and those before them too
  const isBusy = () => Boolean(sending || answers);
  function showBusy() {
    document.body.classList.toggle("maya-busy", isBusy());
    if (!isBusy()) clearTimeout(stopping);
  }
  function unsend(one) {
    if (sending === one) sending = null;
    showBusy();
  }
  window.mayaIsBusy = isBusy;
  window.mayaAnswerBegins = (...given) => {
    [sending, answers, begun] = [null, answers + 1, begun + 1];
    showBusy();
    return given;
  };
  window.mayaAnswerEnds = () => {
    answers -= 1;
    showBusy();
    showNotice();
  };

  // A question's words leave the box as they are sent, before anything else can be typed: gradio asks for them only some
  // turns of the event loop later, or when a picture has come to the server.
  function send() {
    const one = { text: within("textarea").value };
    sending = one;
    showBusy();
    write("");
    const recover = () => {
      if (sending !== one || one.isTaken) return;
      if (within(".loader")) return void setTimeout(recover, LOST_MILLISECONDS);
      unsend(one);
      write([one.text, within("textarea").value].filter(Boolean).join("\n"));
    };
    setTimeout(recover, LOST_MILLISECONDS);
  }
  // A stop may come to the server before its question: it is said again until nothing comes any more.
  let stopping = 0;
  function stop() {
    clearTimeout(stopping);
    stopping = setTimeout(() => within(".stop-button")?.click(), STOP_MILLISECONDS);
  }
  // Where gradio hears of it too, before it does; and instead where nothing is to be sent: what is typed waits in the box.
  function sendOrKeep(event) {
    const isNothing = !within("textarea").value.trim() && !within(".thumbnail-item, .loader") && document.querySelector(SAID);
    if (!isNothing && !isBusy()) return send();
    event.preventDefault();
    event.stopImmediatePropagation();
  }
  document.addEventListener("keypress", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target.matches("#maya-question textarea")) sendOrKeep(event);
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest("#maya-question .submit-button")) sendOrKeep(event);
    if (event.target.closest("#maya-question .stop-button")) stop();
  }, true);

  // What went wrong is told until a picture is taken out of the box, which it may have been; anew, by the answer after that.
  const notice = () => document.getElementById("maya-notice");
  const noticeTold = () => notice().querySelector(".prose")?.textContent ?? ""; // beside it gradio counts the seconds of an event
  let dismissed = null; // its words, and how many answers had begun
  function dismissNotice() {
    if (notice()?.classList.contains("maya-trouble")) dismissed = { told: noticeTold(), begun };
  }
  document.addEventListener("click", (event) => { // by a person: what is sent leaves the box by the same buttons
    if (event.isTrusted && event.target.closest("#maya-question .delete-button")) dismissNotice();
  }, true);
  function showNotice() {
    if (!notice()) return;
    if (dismissed && (dismissed.told !== noticeTold() || (dismissed.begun < begun && !answers))) dismissed = null;
    notice().hidden = Boolean(dismissed);
  }

  // The server keeps what was chosen for some minutes, and not when it is started anew; the page does, until it is sent.
  const chosen = new Map(); // address -> a promise of the file
  const EMPTY_MILLISECONDS = 1000; // after which none are there, for gradio may be drawing the box anew
  let forgetting = 0, inBox = []; // the addresses of those that are kept for when the page is loaded anew
  const shownInBox = () => [...document.querySelectorAll("#maya-question .thumbnail-item img")].map((one) => one.src);
  // What the server has no name for, as HEIC, gradio would take for no picture.
  const kindOf = (blob, name) => (blob.type === "application/octet-stream" ? `image/${name.split(".").at(-1)}` : blob.type);
  const keepInBox = () => window.mayaKeepPictures(inBox.map((one) => chosen.get(one)));
  const forgetThose = () => shownInBox().length || window.mayaKeepPictures([]);
  function keepChosen() {
    const shown = shownInBox();
    if (!isBusy()) for (const address of chosen.keys()) if (!shown.includes(address)) chosen.delete(address);
    for (const address of shown.filter((one) => !chosen.has(one))) {
      const coming = fetch(address).then((answer) => (answer.ok ? answer.blob() : Promise.reject(answer.status)));
      const name = decodeURIComponent(address.split("/").at(-1));
      const named = coming.then((blob) => new File([blob], name, { type: kindOf(blob, name) }));
      chosen.set(address, named.catch(() => void chosen.delete(address)));
    }
    if (shown.join() === inBox.join() || (!shown.length && (sending || asking || unsentPictures))) return;
    inBox = shown;
    clearTimeout(forgetting);
    if (shown.length) keepInBox();
    else forgetting = setTimeout(forgetThose, EMPTY_MILLISECONDS);
  }
  const addressOf = (file) => new URL(file.url ?? "", document.baseURI).href;
  async function sentAgain(file) {
    const address = addressOf(file);
    try {
      const kept = await chosen.get(address), isThere = (await fetch(address, { method: "HEAD" })).ok;
      if (isThere || !(kept instanceof Blob)) return file;
      const form = new FormData();
      form.append("files", kept, file.orig_name ?? kept.name);
      const [path] = await (await fetch("/gradio_api/upload", { method: "POST", body: form })).json();
      return { ...file, path, url: null };
    } catch {
      return file; // whether it can be read, the server says
    }
  }

  // What is typed stays in the tab where the page is loaded anew, which gradio does when its server was started anew.
  let unsent = sessionStorage.getItem("maya-unsent");
  addEventListener("pagehide", () => {
    const onItsWay = asking ?? (sending?.isTaken ? null : sending);
    const words = [...waits.map(({ text }) => text), onItsWay?.text, within("textarea")?.value];
    sessionStorage.setItem("maya-unsent", unsent || words.filter(Boolean).join("\n"));
  });
  let unsentPictures = window.mayaUnsentPictures; // null once they are in the box
  let isGone = false; // the server, that would have to take them
  function writeUnsent() {
    if (unsentPictures && !isGone && within("input[type=file]")) {
      unsentPictures.then((pictures) => pictures.length && window.mayaTakePictures(pictures));
      unsentPictures = null;
    }
    if (!unsent || !within("textarea")) return;
    write([unsent, within("textarea").value].filter(Boolean).join("\n"));
    unsent = "";
  }

  // What was typed and is on its way to the server comes back where it does not come there: gradio says nothing of a server
  // that is gone. sent: the body of a request.
  let asking = null;
  window.mayaSent = (sent, hasCome) => {
    if (!asking || !sent?.includes(JSON.stringify(asking.text))) return;
    const one = asking;
    asking = null;
    if (hasCome) { // what waits beside it, as a question is edited, still waits
      inBox = shownInBox();
      return keepInBox();
    }
    const pictures = Promise.all(one.pictures).then((all) => all.filter(Boolean));
    [isGone, unsentPictures, answers] = [true, pictures, Math.max(0, answers - 1)];
    showBusy();
    write([one.text, within("textarea").value].filter(Boolean).join("\n"));
  };
  window.mayaIsBack = () => {
    isGone = false;
    writeUnsent();
  };

  // -> what is asked: the words that were sent, with the pictures, which leave the box by its own buttons
  window.mayaTake = (typed) => {
    const one = sending;
    if (!one || one.isTaken) return window.mayaEmpty();
    one.isTaken = true;
    asking = { text: one.text, pictures: typed.files.map((file) => chosen.get(addressOf(file))) };
    const removers = document.querySelectorAll("#maya-question .delete-button");
    for (let number = typed.files.length; number > 0; number -= 1) removers[number - 1]?.click(); // from the last: each knows its place
    if (!typed.files.length) return { text: one.text, files: [] };
    return Promise.all(typed.files.map(sentAgain)).then((files) => ({ text: one.text, files }));
  };
  // -> the box, and what is still to be given back. What the person has begun to type since then stays; what comes back waits
  // until that has been asked.
  const waits = [];
  window.mayaGiveBack = (typed, returned) => {
    if (!isEmpty(returned)) waits.push(returned);
    const given = isEmpty(typed) ? waits.shift() : undefined;
    return [given ?? UNCHANGED, isEmpty(returned) ? UNCHANGED : window.mayaEmpty()];
  };
  // -> the box, and the camera
  window.mayaAddPhoto = (typed, photo) => {
    if (!photo) return [UNCHANGED, UNCHANGED];
    return [{ text: typed.text, files: [...typed.files, { ...photo, mime_type: "image/png" }] }, null];
  };

  // A person's own messages, with pictures or without: to copy, and to say in other words.
  const SAID = "#maya-conversation [data-testid=user]";
  const COPY = '<svg viewBox="0 0 24 24"><path d="M9 9h11v11H9zM5 15H4V4h11v1"/></svg>';
  const PEN = '<svg viewBox="0 0 24 24"><path d="M4 20l1-5L16 4l4 4L9 19zM14 6l4 4"/></svg>';
  const TICK = '<svg viewBox="0 0 24 24"><path d="M5 12l5 5L20 7"/></svg>';
  const CROSS = '<svg viewBox="0 0 24 24"><path d="M6 6l12 12M18 6L6 18"/></svg>';

  function button(name, drawing, act) {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", title: name, ariaLabel: name, innerHTML: drawing, onclick: act });
    return made;
  }

  const wordsIn = (row) => [...row.querySelectorAll("[data-testid=user]")].at(-1);
  function textIn(row) {
    const words = wordsIn(row);
    const label = words?.mayaWords?.["aria-label"]?.english ?? words?.ariaLabel ?? "";
    return typedOf(label.replace(/^user's message: /, ""));
  }

  // gradio uses a row again for what stands there in another conversation.
  function addButtons() {
    document.querySelectorAll("#maya-conversation .message-row").forEach((row) => {
      const isOwn = row.matches(".user-row") && wordsIn(row);
      if (row.mayaEdits !== undefined && !(isOwn && row.mayaEdits === textIn(row))) closeEditor(row);
      const own = row.querySelector(".maya-own");
      if (!isOwn) own?.remove();
      if (!isOwn || own) return;
      const buttons = document.createElement("div");
      buttons.className = "maya-own";
      const copy = button("Copy message", COPY, async () => {
        await navigator.clipboard.writeText(textIn(row));
        copy.innerHTML = TICK;
        setTimeout(() => { copy.innerHTML = COPY; }, 2000);
      });
      buttons.append(copy, button("Edit", PEN, () => openEditor(row)));
      row.append(buttons);
    });
  }

  function closeEditor(row) {
    row.querySelector(".maya-editor")?.remove();
    row.classList.remove("maya-editing");
    delete row.mayaEdits;
  }

  function openEditor(row) {
    const editor = document.createElement("div");
    const box = document.createElement("textarea");
    editor.className = "maya-editor";
    box.ariaLabel = "Edit";
    box.value = row.mayaEdits = textIn(row);
    const leave = () => {
      closeEditor(row);
      row.querySelector(".maya-own > :last-child")?.focus();
    };
    const ask = () => {
      if (isBusy() || !box.value.trim()) return; // it waits, as in the question box
      const one = {};
      sending = one;
      setTimeout(() => unsend(one), LOST_MILLISECONDS);
      showBusy();
      edited = { number: [...document.querySelectorAll(SAID)].indexOf(wordsIn(row)), text: box.value };
      document.getElementById("maya-edit").click();
      closeEditor(row);
    };
    box.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") leave();
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      ask();
    });
    editor.append(box, button("Submit", TICK, ask), button("Cancel", CROSS, leave));
    row.append(editor);
    row.classList.add("maya-editing");
    markAll();
    box.focus();
  }

  let edited = null;
  window.mayaEdited = () => {
    asking = { text: edited.text, pictures: [] };
    return edited;
  };

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let theme = "system";
  const show = () => document.body.classList.toggle("dark", theme === "dark" || (theme === "system" && dark.matches));
  dark.addEventListener("change", show);
  window.mayaSetTheme = (chosen) => { theme = chosen || "system"; show(); };

  // The review of translations, by keys at their places on any keyboard; while somebody writes, they are letters.
  const KEYS = { KeyA: "maya-accept", KeyR: "maya-reject", ArrowLeft: "maya-previous", ArrowRight: "maya-next" };
  document.addEventListener("keydown", (event) => {
    const box = document.querySelector("#maya-translation textarea");
    if (!box || event.altKey || event.metaKey) return;
    const writes = event.target.matches?.("input, textarea");
    let done = true;
    if (writes && event.target === box && event.ctrlKey && event.code === "Enter") document.getElementById("maya-accept").click();
    else if (writes && event.code === "Escape") event.target.blur();
    else if (writes || event.ctrlKey) done = false;
    else if (event.code === "KeyE") box.focus();
    else if (KEYS[event.code]) {
      const isMirrored = document.documentElement.dir === "rtl" && event.code.startsWith("Arrow");
      const other = { ArrowLeft: "ArrowRight", ArrowRight: "ArrowLeft" };
      document.getElementById(KEYS[isMirrored ? other[event.code] : event.code]).click();
    } else done = false;
    if (done) event.preventDefault();
  });

  window.mayaMenu = (open) => document.body.classList.toggle("maya-menu-open", open);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") window.mayaMenu(false); });
})();
