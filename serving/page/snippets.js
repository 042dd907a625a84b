// What was just asked, as commands that run as they stand: with curl, and in Python.

const PREDICTIONS = "v1/predictions";
const EXAMPLE = "v1/example";

/** Returns a command for a Unix shell; without a file it asks for the example. */
export function curlCommand(endpoint, file, hasToken) {
  const token = hasToken ? ' -H "Authorization: Bearer $AFFECTUNE_TOKEN"' : "";
  const ask = (path) => `curl -sS${token} ${shellQuoted(endpoint + path)}`;
  const post = `${ask(PREDICTIONS)} \\\n  -H 'Content-Type: application/json' --data-binary`;
  if (file) return `${post} @${shellQuoted(file)}\n`;
  return `${ask(EXAMPLE)} |\n${post} @-\n`;
}

/** Returns a Python program that needs no library; without a file it asks for the example. */
export function pythonProgram(endpoint, file, hasToken) {
  const open = (url) => `urllib.request.urlopen(urllib.request.Request(${url}, headers=headers))`;
  const body = file
    ? `with open(${JSON.stringify(file)}, "rb") as file:`
    : `with ${open(`endpoint + "${EXAMPLE}"`)} as file:`;
  const token = 'headers["Authorization"] = "Bearer " + os.environ["AFFECTUNE_TOKEN"]';
  const lines = [
    "import json",
    ...(hasToken ? ["import os"] : []),
    "import urllib.request",
    "",
    `endpoint = ${JSON.stringify(endpoint)}`,
    'headers = {"Content-Type": "application/json"}',
    ...(hasToken ? [token] : []),
    body,
    "    body = file.read()",
    "",
    `request = urllib.request.Request(endpoint + "${PREDICTIONS}", body, headers)`,
    "with urllib.request.urlopen(request) as answer:",
    "    response = json.load(answer)",
    "",
    'for target, values in response["predictions"].items():',
    "    print(target, values[:5])",
  ];
  return `${lines.join("\n")}\n`;
}

function shellQuoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
