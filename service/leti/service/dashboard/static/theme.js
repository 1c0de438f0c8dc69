// Light or dark, before anything is drawn: as it was chosen here, else as the system has it.
"use strict";
(() => {
  const kept = () => {
    try { return localStorage.getItem("leti-theme"); } catch { return null; }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    document.documentElement.dataset.theme = kept() ?? (system.matches ? "dark" : "light");
    dispatchEvent(new Event("leti:theme"));
  };
  show();
  system.addEventListener("change", show);
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("leti-theme", next); } catch { /* it holds for this page */ }
      document.documentElement.dataset.theme = next;
      dispatchEvent(new Event("leti:theme"));
    });
  });
})();
