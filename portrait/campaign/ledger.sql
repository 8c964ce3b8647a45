-- Records are in a separate table, and reasons in a separate column (no index covers a generated one), so that counting
-- only reads an index of a few megabytes, and no records.
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE subjects(
  name TEXT PRIMARY KEY, photos TEXT NOT NULL, columns TEXT NOT NULL, failure TEXT, embeddings TEXT
) WITHOUT ROWID;
CREATE TABLE jobs(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, place INTEGER NOT NULL, subject TEXT NOT NULL, recipe TEXT NOT NULL,
  style TEXT NOT NULL, axes TEXT NOT NULL, variant INTEGER NOT NULL, stem TEXT NOT NULL, state TEXT NOT NULL,
  round INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,
  reasons TEXT NOT NULL DEFAULT '[]', output TEXT
);
CREATE INDEX jobs_counts ON jobs(state, recipe, style, place, attempts, seconds);
CREATE INDEX jobs_next ON jobs(state, place);
CREATE INDEX jobs_of ON jobs(recipe, subject, state, place);
CREATE TABLE attempts(
  job INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, round INTEGER NOT NULL, number INTEGER NOT NULL,
  ended REAL NOT NULL, accepted INTEGER NOT NULL, seconds REAL NOT NULL, entry TEXT NOT NULL, reasons TEXT NOT NULL,
  PRIMARY KEY(job, round, number)
) WITHOUT ROWID;
CREATE INDEX attempts_reasons ON attempts(accepted, reasons);
CREATE TABLE results(
  job INTEGER PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE, record TEXT NOT NULL, look TEXT, embeddings TEXT
);
