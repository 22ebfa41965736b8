// Menus that close when one looks elsewhere or presses Escape. They are <details>, and work without.
(() => {
  const OPEN = "[data-filters] details[open], details[data-menu][open]";
  document.addEventListener("click", (event) => {
    document.querySelectorAll(OPEN).forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest(OPEN);
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
})();
