//! The tables as diesel sees them; equal on both engines.

diesel::table! {
    counters (name) {
        name -> Text,
        value -> BigInt,
    }
}

diesel::table! {
    sites (id) {
        id -> Text,
        name -> Text,
        tz -> Text,
        labels -> Text,
        trading -> Text,
        bandwidth -> Text,
        state -> SmallInt,
        state_reason -> Text,
        suspended_at -> Nullable<BigInt>,
        resumed_at -> Nullable<BigInt>,
        hold_reason -> Nullable<Text>,
        hold_until -> Nullable<BigInt>,
    }
}

diesel::table! {
    freezes (name) {
        name -> Text,
        reason -> Text,
        first_day -> Text,
        last_day -> Text,
        selector -> Nullable<Text>,
        created_by -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    devices (id) {
        id -> Binary,
        number -> BigInt,
        revision -> BigInt,
        name -> Text,
        site_id -> Nullable<Text>,
        description -> Text,
        serial -> Nullable<Text>,
        labels -> Text,
        spki -> Nullable<Binary>,
        certificate -> Nullable<Text>,
        enrol_token -> Nullable<Binary>,
        enrolled_at -> Nullable<BigInt>,
        last_seen -> Nullable<BigInt>,
        presence -> Nullable<Text>,
        boot_id -> Nullable<Text>,
        busy_at -> Nullable<BigInt>,
        busy_on -> Nullable<Binary>,
        rhythm -> Nullable<Binary>,
        hw -> Text,
        arch -> Text,
        agent -> Text,
        agent_key -> Nullable<Text>,
        tz -> Nullable<Text>,
        channels -> Text,
        attributes -> Text,
        installed -> Text,
        hold_reason -> Nullable<Text>,
        hold_until -> Nullable<BigInt>,
        decommissioned_at -> Nullable<BigInt>,
        image_id -> Nullable<Text>,
        imaged_at -> Nullable<BigInt>,
        identity -> Nullable<Text>,
    }
}

diesel::table! {
    attacks (device_id) {
        device_id -> Binary,
        counters -> Text,
        risen_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    changes (seq) {
        seq -> BigInt,
        device_id -> Binary,
        at -> BigInt,
    }
}

diesel::table! {
    api_tokens (id) {
        id -> Binary,
        secret_sha256 -> Binary,
        name -> Text,
        created_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
        grants -> Text,
        expires_at -> Nullable<BigInt>,
        person -> Nullable<Text>,
    }
}

diesel::table! {
    audit_start (link) {
        link -> BigInt,
        hash -> Binary,
    }
}

diesel::table! {
    notices (seq) {
        seq -> BigInt,
        at -> BigInt,
        kind -> Text,
        device_id -> Nullable<Binary>,
        rollout_id -> Nullable<Binary>,
        text -> Text,
    }
}

diesel::table! {
    webhooks (id) {
        id -> Binary,
        name -> Text,
        url -> Text,
        secret -> Text,
        kinds -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    deliveries (id) {
        id -> Binary,
        webhook_id -> Binary,
        kind -> Text,
        body -> Text,
        state -> SmallInt,
        attempts -> BigInt,
        next_at -> BigInt,
        error -> Nullable<Text>,
        created_at -> BigInt,
    }
}

diesel::table! {
    users (id) {
        id -> Binary,
        name -> Text,
        password -> Text,
        grants -> Text,
        totp -> Nullable<Binary>,
        totp_used -> Nullable<BigInt>,
        created_at -> BigInt,
        disabled_at -> Nullable<BigInt>,
        subject -> Nullable<Text>,
        totp_pending -> Nullable<Binary>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Binary,
        secret_sha256 -> Binary,
        user_id -> Binary,
        created_at -> BigInt,
        last_used_at -> BigInt,
        ends_at -> BigInt,
        source -> Nullable<Text>,
    }
}

diesel::table! {
    answers (asker, key_sha256) {
        asker -> Text,
        key_sha256 -> Binary,
        request_sha256 -> Binary,
        asked_at -> BigInt,
        status -> BigInt,
        sealed -> Binary,
    }
}

diesel::table! {
    enrol_tokens (id) {
        id -> Binary,
        secret_sha256 -> Binary,
        device_id -> Nullable<Binary>,
        site_id -> Nullable<Text>,
        labels -> Text,
        uses -> BigInt,
        max_uses -> BigInt,
        created_at -> BigInt,
        expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
        serial_pattern -> Nullable<Text>,
        waits -> SmallInt,
        reach -> Nullable<Text>,
    }
}

diesel::table! {
    enrolments (id) {
        id -> Binary,
        spki -> Binary,
        token_id -> Binary,
        state -> SmallInt,
        why -> Text,
        device_id -> Nullable<Binary>,
        name -> Nullable<Text>,
        serial -> Nullable<Text>,
        hw -> Text,
        arch -> Text,
        source -> Nullable<Text>,
        first_at -> BigInt,
        last_at -> BigInt,
        decided_by -> Nullable<Text>,
    }
}

diesel::table! {
    heads (epoch, serial) {
        epoch -> BigInt,
        serial -> BigInt,
        envelope -> Binary,
        published_at -> BigInt,
    }
}

diesel::table! {
    roots (version) {
        version -> BigInt,
        envelope -> Binary,
        published_at -> BigInt,
    }
}

diesel::table! {
    payloads (sha256) {
        sha256 -> Binary,
        size -> BigInt,
        chunks_sha256 -> Binary,
        stored_at -> BigInt,
    }
}

diesel::table! {
    releases (sha256) {
        sha256 -> Binary,
        product -> Text,
        version -> Text,
        epoch -> BigInt,
        counter -> BigInt,
        envelope -> Binary,
        published_at -> BigInt,
    }
}

diesel::table! {
    rollouts (id) {
        id -> Binary,
        name -> Text,
        release -> Binary,
        spec -> Text,
        state -> SmallInt,
        state_reason -> Nullable<Text>,
        created_at -> BigInt,
        started_at -> Nullable<BigInt>,
        ended_at -> Nullable<BigInt>,
        open_phase -> BigInt,
        sites -> Nullable<Text>,
        streak -> Text,
        offer_minute -> BigInt,
        offers -> BigInt,
        undoes -> Nullable<Text>,
        created_by -> Text,
        edited_by -> Nullable<Text>,
        countersigned_by -> Nullable<Text>,
        countersigned_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    renewals (device_id) {
        device_id -> Binary,
        spki -> Binary,
        certificate -> Text,
        issued_at -> BigInt,
    }
}

diesel::table! {
    exclusions (rollout_id, why) {
        rollout_id -> Binary,
        why -> Text,
        members -> Binary,
    }
}

diesel::table! {
    phases (rollout_id, idx) {
        rollout_id -> Binary,
        idx -> BigInt,
        name -> Text,
        members -> Binary,
        opened_at -> Nullable<BigInt>,
        met_at -> Nullable<BigInt>,
        soak_skipped_at -> Nullable<BigInt>,
        approved_at -> Nullable<BigInt>,
        approved_by -> Nullable<Text>,
    }
}

diesel::table! {
    members (rollout_id, number) {
        rollout_id -> Binary,
        number -> BigInt,
        phase -> BigInt,
        excluded -> Nullable<Text>,
    }
}

diesel::table! {
    excluded (rollout_id, idx, why) {
        rollout_id -> Binary,
        idx -> BigInt,
        why -> Text,
        devices -> BigInt,
    }
}

diesel::table! {
    counts (rollout_id, idx) {
        rollout_id -> Binary,
        idx -> BigInt,
        size -> BigInt,
        excluded -> BigInt,
        queued -> BigInt,
        downloading -> BigInt,
        staged -> BigInt,
        deferred_window -> BigInt,
        deferred_trading_hours -> BigInt,
        deferred_freeze -> BigInt,
        deferred_inhibitor -> BigInt,
        deferred_user -> BigInt,
        activating -> BigInt,
        verifying -> BigInt,
        silent -> BigInt,
        succeeded -> BigInt,
        rolled_back -> BigInt,
        failed -> BigInt,
        timed_out -> BigInt,
        cancelled -> BigInt,
        acknowledged -> BigInt,
        bytes_served -> BigInt,
        first_at -> Nullable<BigInt>,
        last_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    assignments (id) {
        id -> Binary,
        rollout_id -> Binary,
        device_id -> Binary,
        release -> Binary,
        phase -> BigInt,
        state -> SmallInt,
        attempt -> BigInt,
        failures -> BigInt,
        seq -> BigInt,
        not_before -> Nullable<BigInt>,
        failure -> Nullable<Text>,
        granted_at -> BigInt,
        granted_site -> Nullable<Text>,
        heard_at -> BigInt,
        begun -> SmallInt,
        lapsed -> SmallInt,
        silent -> SmallInt,
        departed -> SmallInt,
        deferred -> Nullable<SmallInt>,
        attention_since -> Nullable<BigInt>,
        timer_at -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    hours (rollout_id, start) {
        rollout_id -> Binary,
        start -> BigInt,
        done -> BigInt,
    }
}

diesel::table! {
    penalties (device_id, release) {
        device_id -> Binary,
        release -> Binary,
        at -> BigInt,
    }
}

diesel::table! {
    events (seq) {
        seq -> BigInt,
        at -> BigInt,
        kind -> Text,
        device_id -> Nullable<Binary>,
        rollout_id -> Nullable<Binary>,
        text -> Text,
        link -> Nullable<BigInt>,
        hash -> Nullable<Binary>,
        who -> Nullable<Text>,
        person -> Nullable<Text>,
        source -> Nullable<Text>,
        before -> Nullable<Text>,
        after -> Nullable<Text>,
    }
}

diesel::joinable!(devices -> sites (site_id));
diesel::joinable!(assignments -> devices (device_id));
diesel::joinable!(assignments -> releases (release));
diesel::joinable!(assignments -> rollouts (rollout_id));
diesel::joinable!(penalties -> devices (device_id));
diesel::joinable!(attacks -> devices (device_id));
diesel::allow_tables_to_appear_in_same_query!(
    attacks,
    deliveries,
    notices,
    webhooks,
    devices,
    sites,
    assignments,
    events,
    rollouts,
    enrol_tokens,
    enrolments,
    releases,
    penalties
);
