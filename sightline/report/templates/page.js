// The page is whole without this: it only adds the filter over the pairs that are shown.
(() => {
  const form = document.querySelector("form.filter");
  if (!form || !form.querySelector("select, input")) return;
  const section = form.closest("section");
  const cards = [...section.querySelectorAll(".pair")];
  const more = section.querySelector("details.more");
  const apply = () => {
    const topic = form.elements.topic ? form.elements.topic.value : "";
    const against = form.elements.against ? form.elements.against.checked : false;
    let shown = 0;
    for (const card of cards) {
      card.hidden = (topic && card.dataset.topic !== topic) || (against && card.dataset.against !== "yes");
      shown += !card.hidden;
    }
    const filtered = Boolean(topic || against);
    if (more && filtered) more.open = true;
    form.querySelector("output").textContent = filtered ? `${shown} of ${cards.length} shown` : "";
  };
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
})();
