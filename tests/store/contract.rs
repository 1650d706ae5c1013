//! The list of the cases, for each engine to be instantiated with.

/// Makes a test of every case, each with a harness of its own from `$open`.
#[macro_export]
macro_rules! contract {
    ($open:path) => {
        $crate::contract! { $open =>
            submissions: [
                a_new_call_is_queued_and_found,
                a_call_submitted_again_is_the_same_call,
                metadata_is_replaced_if_given,
                callbacks_count_once,
                tenants_do_not_see_each_other,
                what_is_written_reads_back_unchanged,
                a_late_callback_hears_the_latest_event_at_once,
                a_callback_given_with_a_call_under_way_waits_for_its_end,
                adopting_is_done_once,
                adopting_leaves_what_stands_alone,
            ],
            claims: [
                only_what_is_due_is_claimed_and_the_next_moment_told,
                each_tenant_has_its_own_slots,
                no_more_of_a_tenant_is_under_way_than_it_may_have,
                the_oldest_is_claimed_first,
                a_claimed_submit_stands_as_unconfirmed,
                a_denial_from_before_a_submit_tells_nothing_of_it,
                what_is_leased_is_not_claimed_again,
                a_stale_lease_overwrites_nothing,
                a_lease_that_ran_out_is_good_until_somebody_else_has_it,
                a_lease_ends_with_its_step,
                new_metadata_leaves_a_lease_alone,
                a_new_round_takes_the_lease_of_a_settle,
                released_work_is_due_at_once,
            ],
            transitions: [
                a_completion_its_event_and_its_deliveries_come_together,
                a_failure_is_announced_too,
                a_revision_is_announced_again,
                a_settle_that_finds_nothing_new_ends_in_silence,
                a_failed_call_begins_again_when_asked_to,
                a_new_round_without_a_result_tells_of_the_one_that_stands,
                polls_are_counted_by_round,
                changes_are_told_after_the_commit,
                the_stats_count_what_is_there,
            ],
            paces: [
                a_completion_teaches_its_tenant_and_no_other,
                what_was_learned_says_when_the_next_call_is_looked_at,
                what_tells_nothing_changes_nothing,
            ],
            deadlines: [
                what_is_past_its_deadline_ends_and_is_announced,
                what_somebody_has_in_hand_is_left_to_them,
                overdue_work_ends_in_batches_and_the_oldest_first,
                what_only_settles_has_no_deadline,
            ],
            deliveries: [
                an_attempt_is_written_down_before_it_is_made,
                a_delivered_one_is_done,
                a_failed_attempt_is_repeated_when_its_time_comes,
                a_hopeless_one_is_given_up,
                a_stale_attempt_overwrites_nothing,
                a_busy_receiver_keeps_its_share_and_no_more,
                a_claim_ends_with_the_body_that_passes_the_bytes,
                a_flood_to_one_receiver_leaves_room_for_another,
                a_tenant_of_many_receivers_leaves_room_for_another,
                behind_many_to_one_busy_receiver_every_other_is_found,
                two_tenants_of_one_receiver_do_not_share_its_slots,
                no_more_are_claimed_than_there_is_room_for,
                every_receiver_gets_its_turn_when_there_is_less_room_than_work,
                released_deliveries_are_due_at_once,
                deliveries_of_another_tenant_are_not_shown,
            ],
            expiry: [
                what_is_old_and_at_rest_goes_with_all_that_hangs_on_it,
                what_is_younger_than_the_retention_stays,
                what_has_a_delivery_to_come_stays,
                what_has_work_to_come_stays,
                it_goes_in_batches,
                the_worker_deletes_what_has_outlived_the_period,
            ],
            feed: [
                an_empty_feed_ends_where_it_begins,
                events_are_told_as_receivers_got_them,
                a_reader_goes_on_after_what_it_has_seen,
                a_tenant_sees_its_own_events_alone,
                a_page_ends_with_the_event_that_passes_its_bytes,
                what_was_deleted_leaves_every_place_as_it_was,
                an_event_that_is_not_there_stands_for_its_time,
                an_event_is_told_of,
                nothing_is_lost_and_nothing_comes_twice,
            ],
            batches: [
                a_batch_is_taken_as_one_after_another,
                a_callback_of_a_batch_is_announced,
                a_thousand_are_taken_and_none_is_nothing,
                batches_of_the_same_calls_in_other_orders_do_not_wait_for_each_other,
            ],
            listings: [
                the_newest_comes_first_and_a_page_has_its_limit,
                pages_do_not_shift_under_writes,
                tenants_have_their_own_lists,
                what_is_listed_is_the_record_and_a_summary_of_the_result,
                a_status_and_moments_are_filters,
                tags_are_found_by_name_and_all_must_be_there,
                words_are_found_in_either_script_and_however_they_are_spelt,
                what_a_query_language_would_read_is_only_words,
                a_side_is_found_by_its_own_words,
                filters_combine,
                a_revision_is_found_by_its_new_words_alone,
                the_longest_talk_is_stored_and_found,
            ],
            deletion: [
                a_deleted_call_leaves_nothing_but_its_record,
                another_tenants_call_is_not_deleted,
                whoever_is_at_a_deleted_call_finds_the_lease_gone,
                a_delivery_under_way_finds_its_lease_gone,
                a_deleted_call_is_not_adopted_but_may_be_submitted_again,
                records_go_some_day,
            ],
            usage: [
                what_is_done_is_counted_by_tenant_and_day,
                days_without_anything_are_left_out_and_old_ones_go,
            ],
            webhooks: [
                an_endpoint_reads_back_as_it_was_written,
                a_change_that_is_out_of_date_is_not_written,
                there_are_no_more_than_there_may_be,
                every_event_goes_to_every_endpoint_that_wants_it,
                it_is_sent_where_the_endpoint_is_now,
                one_that_is_gone_is_disabled_and_its_deliveries_wait,
                one_that_only_fails_for_five_days_is_disabled,
                after_failures_in_a_row_one_delivery_tries_for_all,
                a_flood_to_a_dead_endpoint_delays_no_other,
                what_cannot_be_signed_waits_and_uses_up_no_attempts,
                what_can_never_be_signed_does_not_outlive_the_retention,
                what_came_of_an_endpoint_says_nothing_of_what_it_became,
                failures_are_forgiven_when_asked_for_and_not_else,
                a_deleted_endpoint_leaves_nothing,
                what_waits_for_a_disabled_endpoint_does_not_outlive_the_retention,
                what_is_sent_again_keeps_its_history_and_begins_its_schedule_anew,
                one_that_is_sent_again_and_again_does_not_outweigh_the_others,
                a_test_goes_to_one_endpoint_and_into_no_feed,
                deliveries_are_listed_by_what_they_are,
            ],
            replays: [
                everything_since_a_moment_is_sent_once,
                what_arrived_is_sent_again_and_what_is_on_its_way_is_not,
                a_slow_endpoint_holds_its_replay_back,
                a_replay_waits_while_its_endpoint_is_disabled,
                an_endpoint_has_one_replay_at_a_time,
                a_finished_replay_goes_with_the_retention,
                many_at_one_replay_send_nothing_twice,
                between_enabling_and_replaying_nothing_is_lost,
            ],
            idempotency: [
                a_key_is_one_requests_and_its_answer_is_kept,
                what_came_to_nothing_leaves_its_key_free,
                a_lease_ends_and_a_stalled_owner_overwrites_nothing,
                a_key_whose_time_is_over_is_free_and_goes_in_batches,
                a_deleted_call_takes_the_answers_with_it_that_tell_of_it,
                of_many_at_once_one_gets_the_key,
            ],
            sealed: [
                sealed_endpoints_are_found_page_by_page,
                an_endpoint_that_was_changed_meanwhile_is_left_alone,
                sealed_answers_are_replaced_unless_they_changed,
            ],
            contention: [
                no_row_is_claimed_twice_and_no_submission_is_lost,
                many_submissions_of_one_call_make_one_row,
                many_adoptions_of_one_call_make_one_event,
                no_delivery_is_claimed_twice,
                one_of_many_steps_with_one_lease_counts,
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
