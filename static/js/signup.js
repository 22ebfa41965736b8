// The reader's time zone goes along with a sign-up; the page that waits for a confirmation goes on when it has come.
document.querySelectorAll("[data-zone]").forEach((field) => {
  field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
});
const waiting = document.querySelector("[data-verify]");
if (waiting) {
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(waiting.dataset.verify, { headers: { "HX-Request": "true" } });
        if (answer.status === 200) {
          location.reload();
          return;
        }
      } catch { /* asked again in a moment */ }
    }
    setTimeout(ask, 3000);
  };
  setTimeout(ask, 3000);
}
