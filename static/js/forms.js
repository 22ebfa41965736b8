// A pressed button says that it is at work, and cannot be pressed twice; a failed form is read from its first error.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented || event.target.method === "get" || button.hasAttribute("download")) return;
  if (button.getAttribute("aria-busy") === "true") {
    event.preventDefault();
    return;
  }
  button.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", (event) => {
  document.querySelectorAll("[aria-busy=true]").forEach((button) => button.removeAttribute("aria-busy"));
  // A page that shows a secret once must not come back from the browser's memory.
  if (event.persisted && document.querySelector("[data-once]")) location.reload();
});
const wrong = document.querySelector("[aria-invalid=true]");
if (wrong) wrong.focus();
