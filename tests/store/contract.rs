//! The contract: the list of cases that every engine passes.

/// Creates a test of every case. `$open` opens a new harness for each.
#[macro_export]
macro_rules! contract {
    ($open:path) => {
        $crate::contract! { $open =>
            submissions: [
                a_new_call_is_queued_and_found,
                resubmitting_a_call_changes_the_same_analysis,
                submitted_metadata_replaces_the_old_metadata,
                a_repeated_callback_is_stored_once,
                tenants_do_not_see_each_other,
                stored_values_are_read_back_unchanged,
                a_callback_added_after_completion_gets_the_latest_event,
                a_callback_added_during_processing_gets_the_completion,
                a_call_is_adopted_once,
                adopting_does_not_change_an_existing_analysis,
            ],
            claims: [
                only_due_work_is_claimed_and_the_next_due_time_returned,
                each_tenant_has_its_own_slots,
                work_in_progress_of_a_tenant_is_limited,
                the_oldest_work_is_claimed_first,
                a_claimed_submit_is_stored_as_unconfirmed,
                a_submit_clears_an_earlier_denial,
                leased_work_is_not_claimed_again,
                a_stale_lease_cannot_write,
                an_expired_lease_is_valid_until_another_claim,
                a_step_ends_its_lease,
                new_metadata_does_not_end_a_lease,
                a_new_round_ends_the_lease_of_a_settle_poll,
                released_work_is_due_at_once,
            ],
            transitions: [
                a_completion_writes_its_event_and_deliveries,
                a_failure_is_announced,
                a_revision_is_announced,
                a_settle_poll_without_changes_writes_no_event,
                a_failed_call_restarts_on_request,
                a_failed_new_round_announces_the_earlier_result,
                polls_are_counted_per_round,
                changes_are_announced_after_the_commit,
                statistics_count_stored_rows,
            ],
            paces: [
                a_completion_updates_the_pace_of_its_tenant_only,
                the_learned_pace_sets_the_first_poll,
                failures_and_revisions_do_not_change_the_pace,
            ],
            refused_work: [
                refused_work_of_one_tenant_is_resumed,
                other_work_keeps_its_time,
                much_refused_work_is_resumed_in_batches,
            ],
            deadlines: [
                an_overdue_analysis_fails_and_is_announced,
                leased_work_does_not_fail_as_overdue,
                overdue_work_fails_in_batches_oldest_first,
                a_settle_poll_has_no_deadline,
            ],
            deliveries: [
                an_attempt_is_recorded_with_its_claim,
                a_successful_delivery_is_finished,
                a_failed_attempt_is_retried_when_due,
                a_delivery_is_given_up,
                a_stale_attempt_cannot_write,
                deliveries_in_progress_to_a_receiver_are_limited,
                a_claim_ends_with_the_body_that_exceeds_the_byte_limit,
                a_flood_to_one_receiver_does_not_block_another,
                a_tenant_with_many_receivers_does_not_block_another_tenant,
                receivers_behind_a_busy_receiver_are_found,
                tenants_with_the_same_receiver_have_separate_slots,
                a_claim_of_deliveries_respects_its_slots,
                every_receiver_is_served_when_slots_are_scarce,
                released_deliveries_are_due_at_once,
                deliveries_of_other_tenants_are_hidden,
            ],
            expiry: [
                expired_analyses_are_deleted_with_dependent_rows,
                rows_younger_than_the_retention_are_kept,
                analyses_with_pending_deliveries_are_kept,
                analyses_with_pending_work_are_kept,
                expired_rows_are_deleted_in_batches,
                the_worker_deletes_expired_rows,
            ],
            feed: [
                an_empty_feed_ends_at_its_beginning,
                the_feed_has_the_bodies_that_receivers_got,
                a_reader_continues_after_its_last_event,
                a_tenant_sees_only_its_own_events,
                a_page_ends_with_the_event_that_exceeds_its_byte_limit,
                deletions_do_not_change_positions,
                a_deleted_event_maps_to_its_time,
                an_event_is_announced,
                concurrent_readers_see_each_event_once,
            ],
            batches: [
                a_batch_equals_consecutive_submissions,
                a_callback_of_a_batch_is_announced,
                a_batch_may_have_a_thousand_calls_or_none,
                batches_of_the_same_calls_do_not_deadlock,
            ],
            listings: [
                a_page_is_limited_and_has_the_newest_first,
                pages_are_stable_under_writes,
                tenants_have_their_own_lists,
                a_list_has_records_and_result_summaries,
                analyses_are_filtered_by_status_and_time,
                analyses_are_filtered_by_all_given_tags,
                words_are_found_in_every_script_and_spelling,
                operators_of_query_languages_are_searched_as_words,
                a_search_can_be_limited_to_one_speaker,
                filters_combine,
                tags_are_compared_in_one_unicode_form,
                a_revision_replaces_the_search_entry,
                the_longest_transcript_is_stored_and_found,
            ],
            deletion: [
                a_deleted_call_leaves_only_its_audit_record,
                another_tenants_call_is_not_deleted,
                deleting_a_call_ends_the_lease_on_its_work,
                deleting_a_call_ends_the_leases_on_its_deliveries,
                a_deleted_call_is_not_adopted_but_may_be_submitted_again,
                old_audit_records_are_deleted,
            ],
            usage: [
                usage_is_counted_per_tenant_and_day,
                usage_agrees_with_the_list_of_deliveries,
                days_without_usage_are_omitted_and_old_days_deleted,
            ],
            refreshes: [
                a_refresh_is_one_poll_and_no_submit,
                a_stalled_refresh_cannot_write,
                a_refresh_completes_a_failed_analysis,
                only_the_tenants_own_calls_are_refreshed,
                refreshes_in_progress_are_limited_per_tenant,
                concurrent_refreshes_of_a_call_are_one,
                the_end_of_a_reanalysis_is_stored,
            ],
            webhooks: [
                a_webhook_is_read_back_unchanged,
                an_outdated_change_is_not_written,
                the_number_of_webhooks_is_limited,
                an_event_is_sent_to_every_webhook_that_wants_it,
                a_delivery_uses_the_present_url_of_its_webhook,
                a_gone_webhook_is_disabled_and_its_deliveries_wait,
                a_webhook_that_fails_for_five_days_is_disabled,
                consecutive_failures_pause_a_webhook_until_a_probe_succeeds,
                a_flood_to_a_dead_webhook_does_not_delay_others,
                unsigned_deliveries_wait_without_using_attempts,
                unsigned_deliveries_expire,
                an_outcome_of_an_old_version_does_not_count,
                failures_are_reset_only_on_request,
                a_deleted_webhook_leaves_no_rows,
                deliveries_to_a_disabled_webhook_expire,
                a_redelivery_keeps_attempts_and_restarts_the_schedule,
                a_thin_webhook_gets_no_result,
                a_thin_callback_gets_no_result,
                repeated_redeliveries_do_not_dominate_the_activity,
                a_test_event_goes_to_one_webhook_and_not_to_the_feed,
                deliveries_are_listed_by_filter,
            ],
            replays: [
                a_replay_sends_each_event_since_a_time_once,
                a_replay_restarts_finished_deliveries_only,
                a_replay_counts_each_outcome_once,
                a_replay_waits_for_a_slow_webhook,
                a_replay_waits_while_its_webhook_is_disabled,
                a_webhook_has_one_replay_at_a_time,
                a_finished_replay_expires,
                concurrent_steps_of_a_replay_send_each_event_once,
                a_replay_after_enabling_loses_no_event,
            ],
            idempotency: [
                a_key_belongs_to_one_request_and_keeps_its_answer,
                a_request_without_effect_frees_its_key,
                a_stalled_key_claim_cannot_write,
                expired_keys_are_free_and_deleted_in_batches,
                deleting_a_call_deletes_stored_answers_about_it,
                one_of_many_concurrent_callers_claims_the_key,
            ],
            sealed: [
                sealed_webhooks_are_read_in_pages,
                a_changed_webhook_is_not_resealed,
                changed_answers_are_not_resealed,
            ],
            contention: [
                concurrent_claims_get_each_submission_once,
                concurrent_submissions_of_a_call_create_one_row,
                concurrent_adoptions_of_a_call_write_one_event,
                concurrent_claims_get_each_delivery_once,
                one_of_many_steps_with_the_same_lease_succeeds,
            ],
        }
    };
    ($open:path => $($group:ident: [$($case:ident),* $(,)?],)*) => {
        $(
            mod $group {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        $crate::cases::$group::$case($open().await).await;
                    }
                )*
            }
        )*
    };
}
