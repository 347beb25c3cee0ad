-- People who log in by an identity provider: its issuer, a space, and its name for the person. They have no password.
ALTER TABLE users ADD COLUMN subject TEXT COLLATE "C";
CREATE UNIQUE INDEX users_subject ON users (subject);
-- A secret for codes that its person has not yet shown to have.
ALTER TABLE users ADD COLUMN totp_pending BYTEA;
