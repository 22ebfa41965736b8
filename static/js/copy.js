// Copies the text a button points to, and says so on the button for a moment.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
  } catch {
    return; // the text stands beside the button and can be selected
  }
  const label = button.querySelector("span");
  const before = label.textContent;
  label.textContent = button.dataset.copied;
  setTimeout(() => { label.textContent = before; }, 2000);
});
document.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = false; });
document.addEventListener("htmx:afterSwap", () => {
  document.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = false; });
});
