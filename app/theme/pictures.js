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
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length || isOthers(event)) return;
    event.preventDefault();
    take(event.clipboardData.files);
  });

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
