// From one conversation to another: its address, which one of the list is chosen, and where in it somebody was reading.
(() => {
  const ADDRESS = /^\/c\/([^/]+)$/; // or what is left of one: the server says that it is not there
  const PAUSE_MILLISECONDS = 150; // with the arrow keys one passes by conversations
  const RESTORING_MILLISECONDS = 8000; // while what is drawn still grows, and gradio scrolls to the end
  const addressed = () => location.pathname.match(ADDRESS)?.[1] ?? "";
  const asked = addressed();
  if (asked) history.replaceState(null, "", "/"); // until it is shown: gradio takes the address for its own
  let shown = null; // the conversation that the page shows, "" for none yet; null before the first answer of the server
  let picked = null; // the one that it is to show next

  window.mayaAskedFor = () => asked;
  window.mayaPicked = () => picked;
  window.mayaPickEnded = () => { picked = null; follow(); };
  function pick(conversation) {
    picked = conversation;
    document.getElementById("maya-pick").click();
  }

  let passing = 0;
  document.addEventListener("change", (event) => {
    if (!event.target.matches("#maya-list input")) return;
    picked = event.target.value;
    clearTimeout(passing);
    passing = setTimeout(() => pick(event.target.value), PAUSE_MILLISECONDS);
  });
  window.addEventListener("popstate", () => pick(addressed()));

  function follow() {
    const now = document.querySelector("#maya-actions [data-conversation]")?.dataset.conversation;
    if (now === undefined) return;
    document.querySelectorAll("#maya-list input").forEach((one) => { one.checked = one.value === (picked ?? now); });
    if (now === shown) return;
    const address = now ? `/c/${now}` : "/";
    if (shown === null) restore(now);
    if (location.pathname !== address) history[shown === null ? "replaceState" : "pushState"](null, "", address);
    shown = now;
  }

  const talk = () => document.querySelector("#maya-conversation .bubble-wrap");
  const place = asked && sessionStorage.getItem("maya-place");
  function restore(conversation) {
    const [of, top] = place?.split(" ") ?? [];
    if (!conversation || of !== conversation) return;
    let until = Infinity, isLeft = false;
    for (const kind of ["wheel", "touchstart", "keydown", "mousedown"]) addEventListener(kind, () => { isLeft = true; }, { once: true });
    (function hold() {
      if (isLeft || performance.now() > until) return;
      const end = talk() ? talk().scrollHeight - talk().clientHeight : 0;
      if (end >= Number(top)) until = Math.min(until, performance.now() + RESTORING_MILLISECONDS);
      if (talk()) talk().scrollTop = Number(top);
      requestAnimationFrame(hold);
    })();
  }
  document.addEventListener("scroll", (event) => {
    if (shown && event.target === talk()) sessionStorage.setItem("maya-place", `${shown} ${event.target.scrollTop}`);
  }, true);

  new MutationObserver(follow).observe(document.documentElement, { childList: true, subtree: true });

  // What is printed is named after the conversation.
  addEventListener("beforeprint", () => { document.title = document.querySelector("#maya-title input")?.value || "Maya"; });
  addEventListener("afterprint", () => { document.title = "Maya"; });
  // What was chosen in a list that a button opens closes it.
  document.addEventListener("click", (event) => { if (event.target.closest("a")) event.target.closest("[popover]")?.hidePopover(); });
})();
