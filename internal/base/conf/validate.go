package conf

func (b *Broker) validate() ([]Warning, error) {
	if err := b.resolveNetwork(); err != nil {
		return nil, err
	}
	return nil, nil
}

func refuse(b *Broker) error { return nil }
