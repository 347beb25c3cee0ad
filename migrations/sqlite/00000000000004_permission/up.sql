-- What a token may do, JSON array of role and selector; those from before roles may do everything. And when it ends.
ALTER TABLE api_tokens ADD COLUMN grants TEXT NOT NULL DEFAULT '[{"role":"admin"}]';
ALTER TABLE api_tokens ADD COLUMN expires_at INTEGER;
