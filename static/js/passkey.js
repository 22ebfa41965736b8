// Passkeys (WebAuthn): asks the server for options, the browser for an answer, and hands that over.
(() => {
  if (!window.PublicKeyCredential || !PublicKeyCredential.parseRequestOptionsFromJSON) return;
  class Refusal extends Error {}
  const send = async (url, token, body) => {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
      body: JSON.stringify(body),
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refusal(said.sentence || "");
    return said;
  };
  document.querySelectorAll("[data-passkey]").forEach((part) => {
    const button = part.querySelector("button");
    const place = part.querySelector("[role=alert]");
    const token = part.querySelector("[name=csrfmiddlewaretoken]").value;
    const isNew = "new" in part.dataset;
    part.hidden = false;
    button.addEventListener("click", async () => {
      place.hidden = true;
      button.setAttribute("aria-busy", "true");
      try {
        const options = await send(part.dataset.options, token, {});
        const answer = isNew
          ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
          : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
        const name = part.querySelector("[name=name]");
        const next = new URLSearchParams({ next: part.dataset.next || "", name: name ? name.value : "" });
        location.assign((await send(`${part.dataset.answer}?${next}`, token, answer.toJSON())).go);
      } catch (error) {
        // Anything but our own sentence (the browser's or its owner's no, a lost connection) is not worded for readers.
        place.textContent = (error instanceof Refusal && error.message) || part.dataset.failed;
        place.hidden = false;
        button.removeAttribute("aria-busy");
      }
    });
  });
})();
