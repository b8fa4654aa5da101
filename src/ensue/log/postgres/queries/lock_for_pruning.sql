-- Until the end of the transaction no subscription begins and no hold is set; who is just doing so is waited for.
lock table ensue.subscriptions, ensue.holds in share mode
