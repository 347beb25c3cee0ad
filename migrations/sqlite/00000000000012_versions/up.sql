-- What devices run, by product and version, so that a selector finds them without reading the JSON of all. The database
-- keeps it in step with the column by itself.
CREATE TABLE installed_versions (
    product TEXT NOT NULL,
    key TEXT NOT NULL, -- sort key of the version
    number INTEGER NOT NULL, -- of the device
    version TEXT NOT NULL, -- as it was reported
    PRIMARY KEY (product, key, number)
) STRICT, WITHOUT ROWID;
INSERT INTO installed_versions (product, key, number, version)
SELECT j.key, json_extract(j.value, '$.key'), d.number, json_extract(j.value, '$.version')
FROM devices d, json_each(d.installed) j;

CREATE TRIGGER devices_registered AFTER INSERT ON devices BEGIN
    INSERT INTO installed_versions (product, key, number, version)
    SELECT j.key, json_extract(j.value, '$.key'), new.number, json_extract(j.value, '$.version')
    FROM json_each(new.installed) j;
END;
CREATE TRIGGER devices_installed AFTER UPDATE OF installed ON devices WHEN old.installed <> new.installed BEGIN
    DELETE FROM installed_versions WHERE (product, key, number) IN (
        SELECT j.key, json_extract(j.value, '$.key'), old.number FROM json_each(old.installed) j
    );
    INSERT INTO installed_versions (product, key, number, version)
    SELECT j.key, json_extract(j.value, '$.key'), new.number, json_extract(j.value, '$.version')
    FROM json_each(new.installed) j;
END;
