// The launch as a command of its own: by `natlab` from a file, or by curl.

const form = document.getElementById("launch");

const copyText = (name, text) => (form.querySelector(`[data-command="${name}"] pre`).textContent = text);

function heredoc(text) {
  let end = "END";
  while (text.split("\n").includes(end)) end += "_";
  return `cat > experiment.yaml <<'${end}'\n${text.trimEnd()}\n${end}\nnatlab launch experiment.yaml`;
}

function curl(spec) {
  const body = JSON.stringify(spec, null, 2).replaceAll("'", "'\\''");
  const url = new URL(form.dataset.action, location.href);
  const { tokenHeader } = form.dataset; // names a variable of the reader's shell, hence the other quotes
  const headers = ["'Content-Type: application/json'", ...(tokenHeader ? [`"${tokenHeader}"`] : [])];
  const options = [...headers.map((header) => `-H ${header}`), `-d '${body}'`];
  return [`curl -X POST ${url}`, ...options].join(" \\\n  ");
}

export function showCommands(yaml, spec) {
  copyText("natlab", heredoc(yaml));
  copyText("curl", curl(spec));
}
