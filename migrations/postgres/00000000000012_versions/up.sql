-- What devices run, by product and version, so that a selector finds them without reading the JSON of all. The database
-- keeps it in step with the column by itself.
CREATE TABLE installed_versions (
    product TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL, -- sort key of the version
    number BIGINT NOT NULL, -- of the device
    version TEXT COLLATE "C" NOT NULL, -- as it was reported
    PRIMARY KEY (product, key, number)
);
INSERT INTO installed_versions (product, key, number, version)
SELECT j.key, j.value ->> 'key', d.number, j.value ->> 'version'
FROM devices d, jsonb_each(d.installed::jsonb) j;

CREATE FUNCTION note_installed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM installed_versions v USING jsonb_each(OLD.installed::jsonb) j
        WHERE v.product = j.key AND v.key = j.value ->> 'key' AND v.number = OLD.number;
    END IF;
    INSERT INTO installed_versions (product, key, number, version)
    SELECT j.key, j.value ->> 'key', NEW.number, j.value ->> 'version' FROM jsonb_each(NEW.installed::jsonb) j;
    RETURN NULL;
END $$;
CREATE TRIGGER devices_registered AFTER INSERT ON devices
    FOR EACH ROW EXECUTE FUNCTION note_installed();
CREATE TRIGGER devices_installed AFTER UPDATE OF installed ON devices
    FOR EACH ROW WHEN (OLD.installed <> NEW.installed) EXECUTE FUNCTION note_installed();
