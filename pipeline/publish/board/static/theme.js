// Dark or light before anything is drawn: as the system has it, or as was chosen here.
"use strict";

(() => {
  const NAMES = ["auto", "dark", "light"];
  const read = () => {
    try {
      return localStorage.getItem("tokentide-theme");
    } catch {
      return null; // storage is forbidden: the system's
    }
  };
  let name = NAMES.includes(read()) ? read() : "auto";
  const system = matchMedia("(prefers-color-scheme: light)");

  function apply() {
    const light = name === "light" || (name === "auto" && system.matches);
    document.documentElement.dataset.theme = light ? "light" : "dark";
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = `◐ ${name}`;
      button.setAttribute("aria-label", `theme: ${name}`);
    }
    document.dispatchEvent(new Event("themechange"));
  }

  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      name = NAMES[(NAMES.indexOf(name) + 1) % NAMES.length];
      try {
        localStorage.setItem("tokentide-theme", name);
      } catch {
        // kept for this page only
      }
      apply();
    });
    apply();
  });
  apply();
})();
