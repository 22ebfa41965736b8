// The send log's filters: short addresses, and menus that close when one looks elsewhere. Works without, only less neatly.
(() => {
  const form = document.querySelector("[data-filters]");
  form.addEventListener("submit", () => {
    const recipient = form.elements.recipient;
    const days = form.elements.days;
    if (!recipient.value.trim()) recipient.disabled = true;
    if (days.value === "7") days.disabled = true;
    setTimeout(() => { recipient.disabled = days.disabled = false; });
  });
  const menus = form.querySelectorAll("details");
  document.addEventListener("click", (event) => {
    menus.forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
  form.addEventListener("keydown", (event) => {
    const menu = event.target.closest("details[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
})();
