// Pictures: dropped or pasted anywhere on the page they come into the question, and a click shows one large.
(() => {
  const SHOWN = "#maya-conversation .image-frame img, #maya-question .thumbnail-item img";
  const FADING_MILLISECONDS = 300; // without a sign of what is dragged

  // As if they had been chosen: the question box takes them from there.
  function take(files) {
    const input = document.querySelector("#maya-question input[type=file]"), data = new DataTransfer();
    [...files].forEach((file) => data.items.add(file));
    input.files = data.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  window.mayaTakePictures = take;
  const isOthers = (event) => event.target.closest?.("#maya-question, dialog"); // the box takes its own

  let fading = 0;
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault(); // or the browser would leave the page for the file
    document.body.classList.add("maya-dragging");
    clearTimeout(fading);
    fading = setTimeout(() => document.body.classList.remove("maya-dragging"), FADING_MILLISECONDS);
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length || isOthers(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  // Words that come with pictures are for the field that is written in, or for the question; names of the files are no words.
  function wordsWith(files, text) {
    const isName = (line) => [...files].some(({ name }) => line.endsWith(name)) || /^(https?|file):\S+$/.test(line);
    return text.split(/\r?\n/).filter((line) => line.trim()).every((line) => isName(line.trim())) ? "" : text;
  }
  document.addEventListener("paste", (event) => {
    const { files } = event.clipboardData, box = document.querySelector("#maya-question textarea");
    if (!files.length || event.target.closest?.("dialog")) return;
    const words = wordsWith(files, event.clipboardData.getData("text/plain"));
    if (words && event.target !== box && event.target.matches("input, textarea")) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // gradio would take the pictures alone
    take(files);
    if (!words) return;
    box.focus();
    document.execCommand("insertText", false, words); // as typed: it can be undone
  }, true);

  document.addEventListener("click", (event) => {
    const picture = event.target.closest("button")?.querySelector("img") ?? event.target;
    if (!picture.matches(SHOWN)) return;
    event.preventDefault();
    event.stopPropagation(); // gradio would fill its own frame with it
    const dialog = document.createElement("dialog"), close = document.createElement("button"), large = new Image();
    dialog.id = "maya-large";
    [dialog.ariaLabel, close.ariaLabel] = [window.mayaWord("picture"), window.mayaWord("maya-close-large")];
    close.textContent = "✕";
    large.src = picture.src;
    dialog.append(close, large);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove()); // the browser gives the focus back
    document.body.append(dialog);
    dialog.showModal();
  }, true);
})();
