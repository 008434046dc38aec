// Of pages that the search finds as good, those that show how come before those that list what is.
// A module is named like its guide.
Scorer.score = ([page, , , description, score]) => {
  const more = { "how-to": 2, operations: 2, tutorial: 1 }[page.split("/")[0]] ?? 0;
  return score + more - (/^Python module,/.test(description) ? 15 : 0);
};
