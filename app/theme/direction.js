// Sets the direction and language of every message by its first strong letter, and of the page by the chosen language.
(() => {
  const RIGHT_TO_LEFT = new Set(["ar", "ur"]);
  const STRONG = /[\p{L}]/u;
  const ARABIC_SCRIPT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;
  const URDU_ONLY = /[\u0679\u0688\u0691\u06ba\u06be\u06c1\u06d2\u06cc\u06a9\u06af\u0686\u067e\u06d4]/;
  const TEXTS = "#maya-conversation :is(p, ul, ol, h1, h2, h3, h4, blockquote, table, .message)";

  function directionOf(text) {
    const first = text.match(STRONG);
    return first && ARABIC_SCRIPT.test(first[0]) ? "rtl" : "ltr";
  }

  function mark(element) {
    const text = element.textContent;
    if (!STRONG.test(text)) return;
    const direction = directionOf(text);
    if (element.dir !== direction) element.dir = direction;
    const language = direction === "rtl" ? (URDU_ONLY.test(text) ? "ur" : "ar") : "";
    if (language && element.lang !== language) element.lang = language;
    if (!language && element.lang) element.removeAttribute("lang");
  }

  function markAll() {
    document.querySelectorAll(TEXTS).forEach(mark);
    const direction = document.documentElement.dir || "ltr";
    document.querySelectorAll(".block[dir], .block [data-testid][dir], textarea").forEach((block) => {
      if (block.dir !== direction && !block.closest(".message")) block.dir = direction;
    });
  }

  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; markAll(); });
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  window.mayaSetLanguage = (code) => {
    document.documentElement.lang = code;
    document.documentElement.dir = RIGHT_TO_LEFT.has(code) ? "rtl" : "ltr";
    markAll();
  };
})();
